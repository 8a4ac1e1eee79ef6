// TensorBoard event files (train.tensorboard=true).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace wedge::app {

// Throws wedge::Error where this build cannot write them, because protobuf was not found.
void check_tensorboard();

// Writes events.out.tfevents.* into a folder: records of 8 bytes of length, a checksum of it, an Event, a
// checksum of that (CRC-32C, masked). Made where a run begins at `first_step`, it tells TensorBoard to forget
// what files of the folder say of that step and later ones. Throws wedge::Error when the system refuses.
class TensorboardLog {
 public:
  TensorboardLog(const std::filesystem::path& folder, std::int64_t first_step);
  ~TensorboardLog();
  void scalars(std::int64_t step, const std::vector<std::pair<std::string, double>>& values);

 private:
  class File;
  std::unique_ptr<File> file_;
};

}  // namespace wedge::app

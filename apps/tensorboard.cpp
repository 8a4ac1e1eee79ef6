#include "apps/tensorboard.h"

#include "tensor/check.h"

#if defined(WEDGE_WITH_PROTOBUF)

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

#include "event.pb.h"
#include "tensor/atomic_file.h"

namespace wedge::app {

namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

// Castagnoli's polynomial, reflected.
std::uint32_t crc32c(const std::string& bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
      entries[i] = crc;
    }
    return entries;
  }();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

template <class T>
std::string bytes_of(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// A checksum of data that may hold checksums is turned and moved on, as TFRecord has it.
std::string masked(const std::string& bytes) {
  return bytes_of(std::rotr(crc32c(bytes), 15) + 0xA282EAD8u);
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

class TensorboardLog::File {
 public:
  // A number that grows with time comes first: TensorBoard reads the files of a folder in order of name.
  explicit File(const std::filesystem::path& folder)
      : path_(folder / fmt::format("events.out.tfevents.{:.6f}.wedge.{}", now(), ::getpid())),
        file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666)) {
    WEDGE_CHECK(file_.get() >= 0, "{}", system_error(path_, "write"));
  }

  void append(wedge::proto::Event& event) {
    event.set_wall_time(now());
    const std::string data = event.SerializeAsString(), length = bytes_of<std::uint64_t>(data.size());
    const std::string record = length + masked(length) + data + masked(data);
    write_all(file_, record.data(), record.size(), path_);
  }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

void check_tensorboard() {}

TensorboardLog::TensorboardLog(const std::filesystem::path& folder, std::int64_t first_step)
    : file_(std::make_unique<File>(folder)) {
  wedge::proto::Event version;
  version.set_file_version("brain.Event:2");
  file_->append(version);
  wedge::proto::Event start;
  start.set_step(first_step);
  start.mutable_session_log()->set_status(wedge::proto::SessionLog::START);
  file_->append(start);
}

TensorboardLog::~TensorboardLog() = default;

void TensorboardLog::scalars(std::int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  wedge::proto::Event event;
  event.set_step(step);
  for (const auto& [tag, x] : values) {
    wedge::proto::Value* value = event.mutable_summary()->add_value();
    value->set_tag(tag);
    value->set_simple_value(static_cast<float>(x));
  }
  file_->append(event);
}

}  // namespace wedge::app

#else

namespace wedge::app {

class TensorboardLog::File {};

void check_tensorboard() {
  throw Error(
      "train.tensorboard: this wedge was built without protobuf (Debian: libprotobuf-dev protobuf-compiler)");
}

TensorboardLog::TensorboardLog(const std::filesystem::path&, std::int64_t) {
  check_tensorboard();
}
TensorboardLog::~TensorboardLog() = default;
void TensorboardLog::scalars(std::int64_t, const std::vector<std::pair<std::string, double>>&) {}

}  // namespace wedge::app

#endif

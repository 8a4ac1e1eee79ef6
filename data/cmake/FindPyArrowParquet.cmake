# Finds the Arrow and Parquet C++ libraries inside Python's pyarrow package, for systems that have no package of their own.
#
# Looks at WEDGE_PYARROW_DIR (the folder of the package, which holds include/ and libparquet.so.N) or asks, in this
# order, the Python of ${PROJECT_SOURCE_DIR}/.venv, Python3_EXECUTABLE, and python3 on the PATH. Sets
#   PyArrowParquet_FOUND, PyArrowParquet_VERSION, PyArrowParquet_DIR
# and makes the target PyArrow::parquet. Found means that a program that uses the libraries links with this compiler.

set(WEDGE_PYARROW_DIR "" CACHE PATH "Folder of the pyarrow package (empty: ask Python)")
set(_pyarrow_dir "${WEDGE_PYARROW_DIR}")
if(NOT _pyarrow_dir)
  find_program(PyArrowParquet_PYTHON NAMES python3 DOC "Python that is asked for pyarrow")
  mark_as_advanced(PyArrowParquet_PYTHON)
  foreach(_python "${PROJECT_SOURCE_DIR}/.venv/bin/python3" "${Python3_EXECUTABLE}" "${PyArrowParquet_PYTHON}")
    if(_python AND EXISTS "${_python}" AND NOT _pyarrow_dir)
      execute_process(COMMAND "${_python}" -c "import pyarrow, os; print(os.path.dirname(pyarrow.get_include()))"
                      OUTPUT_VARIABLE _pyarrow_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endforeach()
endif()

set(PyArrowParquet_DIR "")
set(_pyarrow_reason "pyarrow not found (WEDGE_PYARROW_DIR, .venv, Python3_EXECUTABLE, python3)")
if(_pyarrow_dir)
  set(_pyarrow_reason "${_pyarrow_dir} has no include/parquet, libarrow and libparquet")
  # The wheel has versioned names only (libparquet.so.2600, libparquet.2600.dylib): those are the sonames.
  file(GLOB _pyarrow_arrow "${_pyarrow_dir}/libarrow.so.*" "${_pyarrow_dir}/libarrow.[0-9]*.dylib")
  file(GLOB _pyarrow_parquet "${_pyarrow_dir}/libparquet.so.*" "${_pyarrow_dir}/libparquet.[0-9]*.dylib")
  if(_pyarrow_arrow AND _pyarrow_parquet AND EXISTS "${_pyarrow_dir}/include/parquet/api/reader.h")
    list(GET _pyarrow_arrow 0 _pyarrow_arrow)
    list(GET _pyarrow_parquet 0 _pyarrow_parquet)
    file(STRINGS "${_pyarrow_dir}/include/arrow/util/config.h" _pyarrow_version REGEX "ARROW_VERSION_STRING")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" PyArrowParquet_VERSION "${_pyarrow_version}")
    # A wheel built for another standard library than this compiler's would only fail at the last link.
    if(NOT "${_pyarrow_parquet}" STREQUAL "${WEDGE_PYARROW_LINKED}")
      file(WRITE "${PROJECT_BINARY_DIR}/pyarrow_links.cpp"
           "#include <parquet/api/reader.h>\n"
           "int main(int, char** argv) {\n"
           "  return parquet::ParquetFileReader::OpenFile(std::string(argv[0]))->metadata()->num_columns();\n"
           "}\n")
      try_compile(_pyarrow_links "${PROJECT_BINARY_DIR}/pyarrow_links" "${PROJECT_BINARY_DIR}/pyarrow_links.cpp"
                  CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${_pyarrow_dir}/include"
                  LINK_LIBRARIES "${_pyarrow_parquet}" "${_pyarrow_arrow}"
                  CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
      if(_pyarrow_links)
        set(WEDGE_PYARROW_LINKED "${_pyarrow_parquet}" CACHE INTERNAL "Library that passed the link check")
      endif()
    endif()
    set(_pyarrow_reason "${_pyarrow_parquet} does not link with this compiler")
    if("${_pyarrow_parquet}" STREQUAL "${WEDGE_PYARROW_LINKED}")
      set(PyArrowParquet_DIR "${_pyarrow_dir}")
    endif()
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(PyArrowParquet REQUIRED_VARS PyArrowParquet_DIR
                                  VERSION_VAR PyArrowParquet_VERSION REASON_FAILURE_MESSAGE "${_pyarrow_reason}")

if(PyArrowParquet_FOUND AND NOT TARGET PyArrow::parquet)
  add_library(PyArrow::arrow SHARED IMPORTED)
  set_target_properties(PyArrow::arrow PROPERTIES IMPORTED_LOCATION "${_pyarrow_arrow}"
                                                  INTERFACE_INCLUDE_DIRECTORIES "${PyArrowParquet_DIR}/include")
  add_library(PyArrow::parquet SHARED IMPORTED)
  set_target_properties(PyArrow::parquet PROPERTIES IMPORTED_LOCATION "${_pyarrow_parquet}"
                                                    INTERFACE_LINK_LIBRARIES PyArrow::arrow)
endif()

// The header of a safetensors file. It is read piece by piece: a hostile one costs bounded memory and time.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <string>

#include "review/checkpoint.h"

namespace gdn::review {

// The tensors of a file by name. Throws BadCheckpoint for a file that is none: a header beyond the file's end or above
// 32 MiB, entries without dtype, shape and data_offsets, offsets that don't fit the shape, lie outside the file,
// overlap or leave a hole. Reads no data.
std::map<std::string, StoredTensor> read_safetensors_header(const std::string& file);

// The data of a tensor, of at most 64 KiB. Throws BadCheckpoint where there is more or it can't be read.
std::string read_data(const StoredTensor& tensor);

// A file of a checkpoint and its size. Throws BadCheckpoint where it can't be opened or is not a regular file.
std::ifstream open_stored(const std::string& file, std::int64_t& size);

// The next bytes of it. Throws BadCheckpoint where it ends early.
std::string read_stored(std::ifstream& stream, const std::string& file, std::int64_t bytes);

}  // namespace gdn::review

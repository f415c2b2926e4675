// A second reader of GGUF files, for tests only, written from the format's description and sharing nothing with
// lib/: what our writer writes must mean the same to somebody else. It checks no more than it needs.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace adze::testing {

/// type: id of the value type, of the elements for an array; bytes: the payload as stored.
struct PlainValue {
  std::uint32_t type = 0;
  bool array = false;
  std::string bytes;
  bool operator==(const PlainValue&) const = default;
};

struct PlainTensor {
  std::vector<std::uint64_t> dims;
  std::uint32_t type = 0;
  std::string bytes;  ///< with the padding after them
  bool operator==(const PlainTensor&) const = default;
};

struct PlainGguf {
  std::map<std::string, PlainValue> keys;
  std::map<std::string, PlainTensor> tensors;
  std::vector<std::string> order;  ///< names of the tensors
  std::size_t file_bytes = 0;

  explicit PlainGguf(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    all_.assign(std::istreambuf_iterator<char>(stream), {});
    file_bytes = all_.size();
    if (take(4) != "GGUF" || number<std::uint32_t>() != 3) throw std::runtime_error("no GGUF of version 3");
    const auto tensor_count = number<std::uint64_t>();
    const auto key_count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < key_count; ++i) read_key();
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t i = 0; i < tensor_count; ++i) offsets.push_back(read_info());
    const std::size_t start = (at_ + 31) / 32 * 32;
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
      const std::size_t end = i + 1 < tensor_count ? start + offsets[i + 1] : all_.size();
      tensors[order[i]].bytes = all_.substr(start + offsets[i], end - start - offsets[i]);
    }
    all_.clear();
  }

  template <typename T>
  T get(const std::string& key, std::uint32_t type) const {
    const PlainValue& value = keys.at(key);
    if (value.type != type || value.array || value.bytes.size() != sizeof(T)) throw std::runtime_error(key);
    T result;
    std::memcpy(&result, value.bytes.data(), sizeof result);
    return result;
  }
  std::string text(const std::string& key) const { return keys.at(key).bytes.substr(8); }

 private:
  std::string take(std::size_t count) {
    if (count > all_.size() - at_) throw std::runtime_error("cut short");
    at_ += count;
    return all_.substr(at_ - count, count);
  }
  template <typename T>
  T number() {
    const std::string bytes = take(sizeof(T));
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string string() { return take(number<std::uint64_t>()); }
  std::string scalar(std::uint32_t type) {
    static constexpr std::size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type != 8) return take(kBytes[type]);
    const std::string text = string();
    const std::uint64_t length = text.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + text;
  }
  void read_key() {
    const std::string name = string();
    PlainValue value;
    value.type = number<std::uint32_t>();
    value.array = value.type == 9;
    std::uint64_t count = 1;
    if (value.array) {
      value.type = number<std::uint32_t>();
      count = number<std::uint64_t>();
    }
    for (std::uint64_t i = 0; i < count; ++i) value.bytes += scalar(value.type);
    if (!keys.emplace(name, std::move(value)).second) throw std::runtime_error("key twice: " + name);
  }
  std::uint64_t read_info() {
    order.push_back(string());
    PlainTensor tensor;
    tensor.dims.resize(number<std::uint32_t>());
    for (std::uint64_t& dim : tensor.dims) dim = number<std::uint64_t>();
    tensor.type = number<std::uint32_t>();
    if (!tensors.emplace(order.back(), std::move(tensor)).second) throw std::runtime_error("tensor twice");
    return number<std::uint64_t>();
  }

  std::string all_;
  std::size_t at_ = 0;
};

}  // namespace adze::testing

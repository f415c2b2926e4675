// What contexts know of quantized codes, in bits a weight: for all quantized matrices of blocks in compressed stores,
// and for normal weights, the entropy of codes given one thing at a time; in brackets with the price of learning a
// table for each context (half of log2(n) bits a number); then what coding made of the payloads.
//
//   adze-entropy-contexts [STORE...]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "grid/coded/coded_payload.h"
#include "grid/quantized_tensor.h"
#include "model/compressed_store.h"

namespace {

using namespace adze;

/// The codes and step groups of a matrix.
class Codes {
 public:
  explicit Codes(const QuantizedTensor& tensor)
      : shape(tensor.shape()),
        unit(tensor.grid().unit_cols(shape.cols)),
        step(tensor.grid().step_cols(shape.cols)),
        codes_(shape.count()),
        groups_(shape.count() / step) {
    const std::size_t per_row = shape.cols / step;
    for (std::size_t r = 0; r < shape.rows; ++r)
      tensor.unpack(r, std::span(codes_).subspan(r * shape.cols, shape.cols),
                    std::span(groups_).subspan(r * per_row, per_row));
  }

  Shape shape;
  std::size_t unit;  ///< columns
  std::size_t step;

  long code(std::size_t r, std::size_t c) const { return codes_[r * shape.cols + c]; }
  const StepGroup& group(std::size_t r, std::size_t c) const { return groups_[(r * shape.cols + c) / step]; }

 private:
  std::vector<std::int16_t> codes_;
  std::vector<StepGroup> groups_;
};

struct Context {
  const char* name;
  long (*of)(const Codes&, std::size_t r, std::size_t c);
};

constexpr long kEdge = 1000;

constexpr Context kContexts[]{
    {"nothing", [](const Codes&, std::size_t, std::size_t) { return 0L; }},
    {"row", [](const Codes&, std::size_t r, std::size_t) { return static_cast<long>(r); }},
    {"column", [](const Codes&, std::size_t, std::size_t c) { return static_cast<long>(c); }},
    {"place in unit", [](const Codes& t, std::size_t, std::size_t c) { return static_cast<long>(c % t.unit); }},
    {"left", [](const Codes& t, std::size_t r, std::size_t c) { return c > 0 ? t.code(r, c - 1) : kEdge; }},
    {"above", [](const Codes& t, std::size_t r, std::size_t c) { return r > 0 ? t.code(r - 1, c) : kEdge; }},
    {"scale",
     [](const Codes& t, std::size_t r, std::size_t c) {
       const float step = std::fabs(t.group(r, c).step);
       return step > 0 ? std::lround(4 * std::log2(step)) : kEdge;
     }},
    {"zero point",
     [](const Codes& t, std::size_t r, std::size_t c) {
       const StepGroup& group = t.group(r, c);
       return group.step != 0 ? std::lround(group.offset / group.step) : kEdge;
     }},
};

struct Bits {
  double entropy = 0;
  double with_tables = 0;
};

Bits conditional(const Codes& codes, const Context& context) {
  std::map<long, std::map<long, double>> counts;
  for (std::size_t r = 0; r < codes.shape.rows; ++r)
    for (std::size_t c = 0; c < codes.shape.cols; ++c) ++counts[context.of(codes, r, c)][codes.code(r, c)];
  Bits bits;
  for (const auto& [key, table] : counts) {
    double total = 0;
    for (const auto& [code, count] : table) total += count;
    for (const auto& [code, count] : table) bits.entropy -= count * std::log2(count / total);
    bits.with_tables += 0.5 * std::log2(total) * static_cast<double>(table.size() - 1);
  }
  bits.with_tables += bits.entropy;
  return bits;
}

/// Sums over the matrices of a model.
class Totals {
 public:
  void add(const QuantizedTensor& tensor) {
    const Codes codes(tensor);
    weights_ += static_cast<double>(codes.shape.count());
    for (std::size_t k = 0; k < std::size(kContexts); ++k) {
      const Bits bits = conditional(codes, kContexts[k]);
      given_[k].entropy += bits.entropy;
      given_[k].with_tables += bits.with_tables;
    }
    const PayloadReport report = encode_payload(tensor).report;
    payload_ += 8.0 * static_cast<double>(report.payload_bytes);
    coded_ += 8.0 * static_cast<double>(report.coded_bytes);
    codes_ += report.codes;
    side_ += report.side;
  }
  void print(const std::string& name) const {
    std::printf("%s\n  codes given", name.c_str());
    for (std::size_t k = 0; k < std::size(kContexts); ++k)
      std::printf("%s %s %.3f (%.3f)", k == 0 ? "" : ",", kContexts[k].name, given_[k].entropy / weights_,
                  given_[k].with_tables / weights_);
    const double symbols = std::max(1.0, static_cast<double>(codes_.symbols));  // of matrices not coded as bytes
    std::printf(
        "\n  coded: codes %.3f (their entropy in our contexts %.3f), side data %.3f of %.3f, all %.3f of %.3f\n",
        codes_.coded / symbols, codes_.conditional / symbols, side_.coded / weights_, side_.raw / weights_,
        coded_ / weights_, payload_ / weights_);
  }

 private:
  double weights_ = 0;
  Bits given_[std::size(kContexts)];
  double payload_ = 0, coded_ = 0;
  CodingReport codes_, side_;
};

void print_store(const char* path) {
  const CompressedStore store(path);
  Totals totals;
  for (std::size_t b = 0; b < store.architecture().layers; ++b)
    store.block(b).for_each_linear([&](const Linear& linear) {
      if (const auto* const tensor = dynamic_cast<const QuantizedTensor*>(linear.weight.get())) totals.add(*tensor);
    });
  totals.print(path);
}

void print_gaussian(const char* grid) {
  MatrixF weights(1024, 4096);
  RandomStream random(1, "normal weights");
  for (float& w : weights.values()) w = static_cast<float>(0.02 * random.normal());
  Encoding encoding(grid_from_name(grid), weights.shape());
  const std::vector<float> importance(weights.cols(), 1.0f);
  encoding.fit_all(weights, importance, ScaleRule::minmax);
  for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
  const auto tensor = encoding.finish();
  Totals totals;
  totals.add(dynamic_cast<const QuantizedTensor&>(*tensor));
  totals.print(std::string("normal weights, scales by extremes, ") + grid);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (const char* grid : {"int4 g32 sym", "int4 g128 sym", "int4 g128 asym", "gguf/q4_k", "int8 g128 sym"})
      print_gaussian(grid);
    for (int i = 1; i < argc; ++i) print_store(argv[i]);
  } catch (const Error& error) {
    std::fprintf(stderr, "adze-entropy-contexts: %s\n", error.what());
    return error.exit_code();
  }
  return 0;
}

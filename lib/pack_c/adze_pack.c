// The reader of packs: see adze_pack.h. In this order: bytes and bits, XXH3, protobuf's wire format, the manifest,
// grids, masks, matrices made of others, the calls.
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200112L  // open, fstat and mmap beside C99
#endif
#if !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif

#include "adze_pack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#define ADZE_PACK_MAPS 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

typedef unsigned char byte;

// What a file may ask for. Beyond these nothing real lies, and what is allocated for a matrix stays small.
#define MOST_COLS ((uint64_t)1 << 24)
#define MOST_ROWS ((uint64_t)1 << 31)
#define MOST_MANIFEST ((uint64_t)1 << 26)
#define MOST_DEPTH 6  // of formats in formats
#define MOST_TRAIN 8  // cores
#define MOST_TRAIN_FLOATS ((uint64_t)1 << 26)
#define MOST_GRIDS 255  // of mixed rows
#define MOST_NAME 1024
#define MOST_FILES 1024
#define ALIGNMENT 64

static void* fail(adze_pack_error* error, adze_pack_status status, const char* format, ...) {
  va_list arguments;
  if (error == NULL) return NULL;
  error->status = status;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return NULL;
}

// False on overflow.
static int multiply_sizes(uint64_t a, uint64_t b, uint64_t* product) {
  if (b != 0 && a > UINT64_MAX / b) return 0;
  *product = a * b;
  return 1;
}

static uint64_t round_up(uint64_t n, uint64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static uint64_t packed_bytes(uint64_t count, unsigned bits) { return (count * bits + 7) / 8; }

// ---- bytes and bits

static uint32_t read16(const byte* p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t read32(const byte* p) { return read16(p) | read16(p + 2) << 16; }
static uint64_t read64(const byte* p) { return read32(p) | (uint64_t)read32(p + 4) << 32; }

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static double double_of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float float_of_f16(uint32_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return float_of_bits(sign | 0x7F800000u | fraction << 13);
  if (exponent > 0) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  {  // subnormal: fraction * 2^-24, exact
    const float value = (float)fraction * float_of_bits(0x33800000u);
    return sign != 0 ? -value : value;
  }
}

typedef enum float_type { NOT_FLOAT, F32, F16, BF16 } float_type;

static unsigned float_bytes(float_type type) { return type == F32 ? 4 : 2; }

static float read_float(float_type type, const byte* p) {
  if (type == F32) return float_of_bits(read32(p));
  return type == F16 ? float_of_f16(read16(p)) : float_of_bits(read16(p) << 16);
}

// Number `index` of a stream of `bits` wide numbers (1 to 32), lowest bits first. Reads no byte that has none of it.
static uint32_t read_bits(const byte* stream, uint64_t index, unsigned bits) {
  const uint64_t first = index * bits;
  const unsigned shift = (unsigned)(first % 8), last = (shift + bits + 7) / 8;
  uint64_t window = 0;
  unsigned i;
  for (i = 0; i < last; ++i) window |= (uint64_t)stream[first / 8 + i] << (8 * i);
  return (uint32_t)(window >> shift & (((uint64_t)1 << bits) - 1));
}

static unsigned bit_width(uint64_t value) {
  unsigned width = 0;
  for (; value != 0; value >>= 1) ++width;
  return width;
}

// ---- XXH3, 64 bits (the algorithm's specification: github.com/Cyan4973/xxHash, doc/xxhash_spec.md)

// clang-format off
static const byte kSecret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};
// clang-format on

static const uint64_t kPrime32[4] = {0, 0x9E3779B1u, 0x85EBCA77u, 0xC2B2AE3Du};
static const uint64_t kPrime64[6] = {0,
                                     UINT64_C(0x9E3779B185EBCA87),
                                     UINT64_C(0xC2B2AE3D27D4EB4F),
                                     UINT64_C(0x165667B19E3779F9),
                                     UINT64_C(0x85EBCA77C2B2AE63),
                                     UINT64_C(0x27D4EB2F165667C5)};

// Both halves of the product of 128 bits, XORed.
static uint64_t folded_product(uint64_t a, uint64_t b) {
  const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
  const uint64_t low = a0 * b0, middle1 = a1 * b0 + (low >> 32), middle2 = a0 * b1 + (uint32_t)middle1;
  return ((middle2 << 32) | (uint32_t)low) ^ (a1 * b1 + (middle1 >> 32) + (middle2 >> 32));
}

static uint64_t rotate_left(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t swap64(uint64_t x) {
  uint64_t swapped = 0;
  int i;
  for (i = 0; i < 8; ++i, x >>= 8) swapped = swapped << 8 | (x & 255);
  return swapped;
}

static uint64_t avalanche(uint64_t h) {
  h ^= h >> 37;
  h *= UINT64_C(0x165667919E3779F9);
  return h ^ h >> 32;
}

static uint64_t avalanche64(uint64_t h) {
  h ^= h >> 33;
  h *= kPrime64[2];
  h ^= h >> 29;
  h *= kPrime64[3];
  return h ^ h >> 32;
}

static uint64_t mix16(const byte* p, const byte* secret) {
  return folded_product(read64(p) ^ read64(secret), read64(p + 8) ^ read64(secret + 8));
}

static uint64_t hash_short(const byte* p, uint64_t n) {
  if (n > 8) {
    const uint64_t low = read64(p) ^ read64(kSecret + 24) ^ read64(kSecret + 32);
    const uint64_t high = read64(p + n - 8) ^ read64(kSecret + 40) ^ read64(kSecret + 48);
    return avalanche(n + swap64(low) + high + folded_product(low, high));
  }
  if (n >= 4) {
    uint64_t h = (read32(p + n - 4) + ((uint64_t)read32(p) << 32)) ^ read64(kSecret + 8) ^ read64(kSecret + 16);
    h ^= rotate_left(h, 49) ^ rotate_left(h, 24);
    h *= UINT64_C(0x9FB21C651E98DF25);
    h ^= (h >> 35) + n;
    h *= UINT64_C(0x9FB21C651E98DF25);
    return h ^ h >> 28;
  }
  if (n > 0) {
    const uint64_t joined = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 24 | p[n - 1] | n << 8;
    return avalanche64(joined ^ read32(kSecret) ^ read32(kSecret + 4));
  }
  return avalanche64(read64(kSecret + 56) ^ read64(kSecret + 64));
}

static uint64_t hash_medium(const byte* p, uint64_t n) {
  uint64_t h = n * kPrime64[1], i;
  if (n <= 128) {
    for (i = 0; i <= (n - 1) / 32; ++i)
      h += mix16(p + 16 * i, kSecret + 32 * i) + mix16(p + n - 16 * (i + 1), kSecret + 32 * i + 16);
    return avalanche(h);
  }
  for (i = 0; i < 8; ++i) h += mix16(p + 16 * i, kSecret + 16 * i);
  h = avalanche(h);
  for (; i < n / 16; ++i) h += mix16(p + 16 * i, kSecret + 16 * (i - 8) + 3);
  return avalanche(h + mix16(p + n - 16, kSecret + 136 - 17));
}

static void accumulate_stripe(uint64_t* sums, const byte* p, const byte* secret) {
  int i;
  for (i = 0; i < 8; ++i) {
    const uint64_t data = read64(p + 8 * i), key = data ^ read64(secret + 8 * i);
    sums[i ^ 1] += data;
    sums[i] += (uint32_t)key * (key >> 32);
  }
}

static uint64_t hash_long(const byte* p, uint64_t n) {
  uint64_t sums[8] = {0}, h = n * kPrime64[1], stripe;
  int i;
  sums[0] = kPrime32[3];
  for (i = 1; i < 5; ++i) sums[i] = kPrime64[i];
  sums[5] = kPrime32[2];
  sums[6] = kPrime64[5];
  sums[7] = kPrime32[1];
  for (stripe = 0; stripe < (n - 1) / 64; ++stripe) {
    accumulate_stripe(sums, p + 64 * stripe, kSecret + 8 * (stripe % 16));
    if (stripe % 16 != 15) continue;
    for (i = 0; i < 8; ++i) sums[i] = (sums[i] ^ sums[i] >> 47 ^ read64(kSecret + 128 + 8 * i)) * kPrime32[1];
  }
  accumulate_stripe(sums, p + n - 64, kSecret + 192 - 64 - 7);
  for (i = 0; i < 4; ++i)
    h += folded_product(sums[2 * i] ^ read64(kSecret + 11 + 16 * i), sums[2 * i + 1] ^ read64(kSecret + 19 + 16 * i));
  return avalanche(h);
}

uint64_t adze_pack_hash64(const void* bytes, size_t size) {
  if (size <= 16) return hash_short(bytes, size);
  return size <= 240 ? hash_medium(bytes, size) : hash_long(bytes, size);
}

// ---- protobuf's wire format

typedef struct span {
  const byte *at, *end;
} span;

typedef struct field {
  uint64_t number;
  uint64_t value;  // of varints and of numbers of fixed size
  span bytes;      // of texts, messages and packed lists
  int type;        // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
} field;

static int next_varint(span* in, uint64_t* value) {
  unsigned shift;
  *value = 0;
  for (shift = 0; shift < 64 && in->at < in->end; shift += 7) {
    const byte b = *in->at++;
    *value |= (uint64_t)(b & 127) << shift;
    if (b < 128) return 1;
  }
  return 0;
}

// 1: a field; 0: the end; -1: malformed.
static int next_field(span* in, field* out) {
  uint64_t key, size = 0;
  if (in->at == in->end) return 0;
  if (!next_varint(in, &key)) return -1;
  out->number = key >> 3;
  out->type = (int)(key & 7);
  out->value = 0;
  out->bytes.at = out->bytes.end = in->at;
  if (out->type == 0) return next_varint(in, &out->value) ? 1 : -1;
  if (out->type == 1) size = 8;
  if (out->type == 5) size = 4;
  if (out->type == 2 && !next_varint(in, &size)) return -1;
  if (size > (uint64_t)(in->end - in->at) || (size == 0 && out->type != 2)) return -1;
  out->bytes.at = in->at;
  in->at += size;
  out->bytes.end = in->at;
  if (out->type == 1) out->value = read64(out->bytes.at);
  return 1;
}

static uint64_t size_of(span s) { return (uint64_t)(s.end - s.at); }

// ---- the manifest

struct adze_pack {
  const byte* data;
  uint64_t size;
  void* mapped;   // NULL: data belong to the caller
  int allocated;  // mapped is malloc'ed
  uint64_t data_start, piece_bytes;
  adze_pack_model model;
  adze_pack_file* files;
  adze_pack_tensor* tensors;
  size_t file_count, tensor_count;
  adze_pack_pair* pairs;
  double* frequencies;
  size_t frequency_count;
  int32_t* eos;
  char* texts;  // as many bytes as the manifest: each text there has a key and a length before it
  size_t texts_used;
};

typedef struct region {
  uint64_t offset, bytes;
  span checks;
} region;

// While a manifest is read.
typedef struct reading {
  adze_pack* pack;
  adze_pack_error* error;
  uint64_t end;  // of the last region
  uint32_t record;
  int has_model;
} reading;

static int refuse(reading* r, const char* what) {
  fail(r->error, ADZE_PACK_BAD_DATA, "record %lu: %s", (unsigned long)r->record, what);
  return 0;
}

static const char* keep_text(reading* r, span text) {
  char* const kept = r->pack->texts + r->pack->texts_used;
  memcpy(kept, text.at, (size_t)size_of(text));
  kept[size_of(text)] = '\0';
  r->pack->texts_used += (size_t)size_of(text) + 1;
  return kept;
}

// Checksums stand in one run: as adze writes them, and as a reader can use them where they lie.
static int read_region(reading* r, span in, region* out) {
  field f;
  int got;
  uint64_t pieces;
  memset(out, 0, sizeof *out);
  while ((got = next_field(&in, &f)) == 1) {
    if (f.number == 1 && f.type == 0) out->offset = f.value;
    if (f.number == 2 && f.type == 0) out->bytes = f.value;
    if (f.number == 4 && f.type == 2) {
      if (out->checks.at != NULL) return refuse(r, "checksums in more than one run");
      out->checks = f.bytes;
    }
  }
  if (got < 0) return refuse(r, "malformed region");
  if (out->offset != round_up(r->end, ALIGNMENT)) return refuse(r, "a region that is not behind the one before");
  if (out->bytes > r->pack->size - r->pack->data_start ||
      out->offset > r->pack->size - r->pack->data_start - out->bytes)
    return refuse(r, "a region that leaves the file");
  r->end = out->offset + out->bytes;
  pieces = out->bytes / r->pack->piece_bytes + (out->bytes % r->pack->piece_bytes != 0);
  if (size_of(out->checks) != 8 * pieces) return refuse(r, "another number of checksums than pieces");
  return 1;
}

static int read_rope(reading* r, span in) {
  field f;
  int got;
  while ((got = next_field(&in, &f)) == 1) {
    uint64_t i;
    if (f.number > 8) r->pack->model.has_more = 1;
    if (f.number != 8 || f.type != 2) continue;
    if (r->pack->frequencies != NULL || size_of(f.bytes) % 8 != 0) return refuse(r, "malformed frequencies");
    r->pack->frequency_count = (size_t)(size_of(f.bytes) / 8);
    r->pack->frequencies = malloc((size_t)size_of(f.bytes) + 8);
    if (r->pack->frequencies == NULL) return fail(r->error, ADZE_PACK_OUT_OF_MEMORY, "out of memory") != NULL;
    for (i = 0; i < r->pack->frequency_count; ++i) r->pack->frequencies[i] = double_of_bits(read64(f.bytes.at + 8 * i));
  }
  return got == 0 ? 1 : refuse(r, "malformed RoPE");
}

// A list with room for one element more: one that grows doubles, so that its `count` is a power of two then.
static void* with_room(void* list, size_t count, size_t element_bytes) {
  if ((count & (count - 1)) != 0) return list;
  return realloc(list, (count > 0 ? 2 * count : 1) * element_bytes);
}

static int add_eos(reading* r, uint64_t id) {
  adze_pack_model* const model = &r->pack->model;
  int32_t* const grown = with_room(r->pack->eos, model->eos_count, sizeof *grown);
  if (grown == NULL) return fail(r->error, ADZE_PACK_OUT_OF_MEMORY, "out of memory") != NULL;
  grown[model->eos_count++] = (int32_t)(uint32_t)id;
  r->pack->eos = grown;
  return 1;
}

static int read_architecture(reading* r, span in) {
  adze_pack_model* const model = &r->pack->model;
  uint64_t* const sizes[] = {&model->hidden,   &model->ffn,      &model->layers, &model->heads,
                             &model->kv_heads, &model->head_dim, &model->vocab,  &model->max_positions};
  int* const flags[] = {&model->tied, &model->qkv_bias, &model->o_bias, &model->mlp_bias};
  field f;
  int got;
  while ((got = next_field(&in, &f)) == 1) {
    if (f.number > 18 && f.number != 36) model->has_more = 1;
    if (f.type == 0 && f.number >= 2 && f.number <= 9) *sizes[f.number - 2] = f.value;
    if (f.type == 0 && f.number >= 12 && f.number <= 15) *flags[f.number - 12] = f.value != 0;
    if (f.type == 0 && f.number == 16) model->sliding_window = f.value;
    if (f.type == 0 && f.number == 33) model->position_rows = f.value;
    if (f.type == 0 && f.number == 36) model->rotary_dim = f.value;
    if (f.type == 0 && f.number == 17) {
      model->has_bos = 1;
      model->bos_id = (int32_t)(uint32_t)f.value;
    }
    if (f.type == 0 && f.number == 18 && !add_eos(r, f.value)) return 0;
    if (f.type == 1 && f.number == 10) model->norm_eps = double_of_bits(f.value);
    if (f.type != 2) continue;
    if (f.number == 1) model->family = keep_text(r, f.bytes);
    if (f.number == 11 && !read_rope(r, f.bytes)) return 0;
    while (f.number == 18 && f.bytes.at < f.bytes.end) {
      uint64_t id;
      if (!next_varint(&f.bytes, &id)) return refuse(r, "malformed list of tokens");
      if (!add_eos(r, id)) return 0;
    }
  }
  return got == 0 ? 1 : refuse(r, "malformed architecture");
}

static int read_pair(reading* r, span in) {
  adze_pack_model* const model = &r->pack->model;
  adze_pack_pair* const grown = with_room(r->pack->pairs, model->provenance_count, sizeof *grown);
  adze_pack_pair* pair;
  field f;
  int got;
  if (grown == NULL) return fail(r->error, ADZE_PACK_OUT_OF_MEMORY, "out of memory") != NULL;
  r->pack->pairs = grown;
  pair = &grown[model->provenance_count++];
  pair->key = pair->value = "";
  while ((got = next_field(&in, &f)) == 1)
    if (f.type == 2 && f.number <= 2) *(f.number == 1 ? &pair->key : &pair->value) = keep_text(r, f.bytes);
  return got == 0 ? 1 : refuse(r, "malformed provenance");
}

// A pack of differences is no model without the one that they are from.
static int refuse_delta(reading* r, span base) {
  const char* name = "";
  field f;
  while (next_field(&base, &f) == 1)
    if (f.type == 2 && f.number == 1) name = keep_text(r, f.bytes);
  fail(r->error, ADZE_PACK_UNSUPPORTED,
       "a delta, the difference from the model '%.100s', which this reader does not add", name);
  return 0;
}

static int read_model(reading* r, span in) {
  adze_pack_model* const model = &r->pack->model;
  field f;
  int got;
  if (r->has_model) return refuse(r, "a second model record");
  r->has_model = 1;
  model->name = model->family = "";
  while ((got = next_field(&in, &f)) == 1) {
    if (f.type == 0 && f.number == 4) r->pack->piece_bytes = f.value;
    if (f.type != 2) continue;
    if (f.number == 1) model->name = keep_text(r, f.bytes);
    if (f.number == 2 && !read_architecture(r, f.bytes)) return 0;
    if (f.number == 3 && !read_pair(r, f.bytes)) return 0;
    if (f.number == 5) return refuse_delta(r, f.bytes);
  }
  if (got < 0) return refuse(r, "malformed model");
  if (r->pack->piece_bytes < 4096 || r->pack->piece_bytes > (uint64_t)1 << 30)
    return refuse(r, "pieces of a size that is not allowed");
  if (model->rotary_dim == 0) model->rotary_dim = model->head_dim;
  if (model->rotary_dim > model->head_dim) return refuse(r, "more rotated elements than a head has");
  const uint64_t pairs = model->position_rows > 0 ? 0 : model->rotary_dim / 2;
  if (pairs != r->pack->frequency_count) return refuse(r, "another number of frequencies than pairs");
  model->rope_frequencies = r->pack->frequencies;
  model->eos_ids = r->pack->eos;
  model->provenance = r->pack->pairs;
  return 1;
}

static int is_bare_name(const char* name) {
  return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strpbrk(name, "/\\") == NULL;
}

static int read_file(reading* r, span in) {
  adze_pack_file* const file = &r->pack->files[r->pack->file_count++];
  span where = {NULL, NULL};
  region place;
  field f;
  int got;
  size_t i;
  file->name = "";
  while ((got = next_field(&in, &f)) == 1) {
    if (f.type == 2 && f.number == 1) file->name = keep_text(r, f.bytes);
    if (f.type == 2 && f.number == 2) where = f.bytes;
  }
  if (got < 0) return refuse(r, "malformed file");
  if (!is_bare_name(file->name)) return refuse(r, "a file of a name that no file has");
  if (r->pack->tensor_count > 0) return refuse(r, "a file behind a tensor");
  if (r->pack->file_count > MOST_FILES) return refuse(r, "more files than a model has");
  if (!read_region(r, where, &place)) return 0;
  for (i = 0; i + 1 < r->pack->file_count; ++i)
    if (strcmp(r->pack->files[i].name, file->name) == 0) return refuse(r, "a file that is there twice");
  file->data = r->pack->data + r->pack->data_start + place.offset;
  file->bytes = place.bytes;
  file->checks = place.checks.at;
  file->check_count = size_of(place.checks) / 8;
  return 1;
}

static int read_shape(reading* r, span in, adze_pack_tensor* tensor) {
  while (in.at < in.end) {
    uint64_t size;
    if (!next_varint(&in, &size) || tensor->dimensions == 2) return refuse(r, "a shape that is no vector's or matrix'");
    if (tensor->dimensions++ == 1) tensor->rows = tensor->cols;
    tensor->cols = size;
  }
  return 1;
}

static int refuse_encoding(reading* r, const adze_pack_tensor* tensor, uint64_t encoding) {
  static const char* const kNames[] = {"raw", "rans", "planes", "delta", "same"};
  if (encoding == 1) {
    fail(r->error, ADZE_PACK_UNSUPPORTED,
         "tensor '%.100s' is entropy-coded (rans), which this reader does not decode; export it as pack, not "
         "pack-entropy",
         tensor->name);
    return 0;
  }
  fail(r->error, ADZE_PACK_UNSUPPORTED, "tensor '%.100s': encoding %lu (%s)", tensor->name, (unsigned long)encoding,
       encoding < 5 ? kNames[encoding] : "unknown");
  return 0;
}

static int read_tensor(reading* r, span in) {
  adze_pack_tensor* const tensor = &r->pack->tensors[r->pack->tensor_count++];
  span where = {NULL, NULL};
  uint64_t encoding = 0, count;
  region place;
  field f;
  int got;
  tensor->name = tensor->module = tensor->format = "";
  tensor->rows = 1;
  while ((got = next_field(&in, &f)) == 1) {
    if (f.type == 0 && f.number == 3) tensor->role = f.value <= 7 ? (int)f.value : 0;
    if (f.type == 0 && f.number == 6) encoding = f.value;
    if (f.type != 2) continue;
    if (f.number == 1) tensor->name = keep_text(r, f.bytes);
    if (f.number == 2) tensor->module = keep_text(r, f.bytes);
    if (f.number == 4 && !read_shape(r, f.bytes, tensor)) return 0;
    if (f.number == 5) tensor->format = keep_text(r, f.bytes);
    if (f.number == 7) where = f.bytes;
  }
  if (got < 0) return refuse(r, "malformed tensor");
  if (encoding != 0) return refuse_encoding(r, tensor, encoding);
  if (strlen(tensor->format) > MOST_NAME || strlen(tensor->name) > MOST_NAME || tensor->name[0] == '\0')
    return refuse(r, "a name or format that is too long or empty");
  if (tensor->dimensions == 0 || tensor->rows > MOST_ROWS || !multiply_sizes(tensor->rows, tensor->cols, &count))
    return refuse(r, "a shape that no tensor has");
  if (!read_region(r, where, &place)) return 0;
  tensor->data = r->pack->data + r->pack->data_start + place.offset;
  tensor->bytes = place.bytes;
  tensor->checks = place.checks.at;
  tensor->check_count = size_of(place.checks) / 8;
  return 1;
}

static int read_record(reading* r, span message) {
  int (*const readers[])(reading*, span) = {read_model, read_file, read_tensor};
  field f;
  const int got = next_field(&message, &f);
  if (got != 1 || f.type != 2 || f.number < 1 || f.number > 3 || message.at != message.end)
    return refuse(r, "a kind of record that is not known");
  if (!r->has_model && f.number != 1) return refuse(r, "the first record is not that of the model");
  return readers[f.number - 1](r, f.bytes);
}

static int compare_names(const void* a, const void* b) {
  return strcmp((*(const adze_pack_tensor* const*)a)->name, (*(const adze_pack_tensor* const*)b)->name);
}

static int check_names(reading* r) {
  const size_t count = r->pack->tensor_count;
  const adze_pack_tensor** const sorted = malloc((count + 1) * sizeof *sorted);
  size_t i;
  int fine = 1;
  if (sorted == NULL) return fail(r->error, ADZE_PACK_OUT_OF_MEMORY, "out of memory") != NULL;
  for (i = 0; i < count; ++i) sorted[i] = &r->pack->tensors[i];
  qsort(sorted, count, sizeof *sorted, compare_names);
  for (i = 1; i < count && fine; ++i)
    if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
      fail(r->error, ADZE_PACK_BAD_DATA, "tensor '%.100s' is there twice", sorted[i]->name);
      fine = 0;
    }
  free(sorted);
  return fine;
}

static int read_records(reading* r, span manifest, uint32_t records) {
  for (r->record = 0; r->record < records; ++r->record) {
    span message;
    uint32_t length;
    if (size_of(manifest) < 16) return refuse(r, "the manifest ends inside it");
    length = read32(manifest.at);
    if ((uint32_t)adze_pack_hash64(manifest.at, 4) != read32(manifest.at + 4) || length > size_of(manifest) - 16)
      return refuse(r, "is damaged");
    message.at = manifest.at + 16;
    message.end = message.at + length;
    if (adze_pack_hash64(message.at, length) != read64(manifest.at + 8)) return refuse(r, "is damaged");
    if (!read_record(r, message)) return 0;
    manifest.at = message.end;
  }
  if (manifest.at != manifest.end) return refuse(r, "bytes behind the last record");
  if (!r->has_model) return refuse(r, "no record says what the model is");
  if (r->pack->data_start + r->end != r->pack->size) return refuse(r, "the file does not end with the last region");
  return check_names(r);
}

static int read_head(adze_pack* pack, adze_pack_error* error) {
  static const byte kMagic[8] = {0x89, 'A', 'D', 'Z', 'E', 'P', 'K', '\n'};
  const byte* const head = pack->data;
  reading r = {pack, error, 0, 0, 0};
  span manifest;
  uint64_t bytes, padding;
  uint32_t records;
  if (pack->size < 64 || memcmp(head, kMagic, 8) != 0)
    return fail(error, ADZE_PACK_BAD_DATA, "does not begin as a pack") != NULL;
  if (read32(head + 8) != 1)
    return fail(error, ADZE_PACK_UNSUPPORTED, "version %lu, this reader knows 1", (unsigned long)read32(head + 8)) !=
           NULL;
  if (adze_pack_hash64(head, 56) != read64(head + 56) || read64(head + 40) != 0 || read64(head + 48) != 0)
    return fail(error, ADZE_PACK_BAD_DATA, "the header is damaged") != NULL;
  if (read64(head + 32) != pack->size)
    return fail(error, ADZE_PACK_BAD_DATA, "another size than the header says") != NULL;
  records = read32(head + 12);
  bytes = read64(head + 16);
  pack->data_start = read64(head + 24);
  if (bytes > MOST_MANIFEST || bytes > pack->size - 64 || pack->data_start != round_up(64 + bytes, ALIGNMENT) ||
      pack->data_start > pack->size || records > bytes / 16)
    return fail(error, ADZE_PACK_BAD_DATA, "a header whose numbers do not fit each other") != NULL;
  for (padding = 64 + bytes; padding < pack->data_start; ++padding)
    if (head[padding] != 0) return fail(error, ADZE_PACK_BAD_DATA, "padding that is not zero") != NULL;
  pack->texts = malloc((size_t)bytes + 1);
  pack->files = calloc((size_t)records + 1, sizeof *pack->files);
  pack->tensors = calloc((size_t)records + 1, sizeof *pack->tensors);
  if (pack->texts == NULL || pack->files == NULL || pack->tensors == NULL)
    return fail(error, ADZE_PACK_OUT_OF_MEMORY, "out of memory") != NULL;
  manifest.at = head + 64;
  manifest.end = manifest.at + bytes;
  return read_records(&r, manifest, records);
}

// ---- files

static void unmap(adze_pack* pack) {
  if (pack->mapped == NULL) return;
#ifdef ADZE_PACK_MAPS
  if (!pack->allocated) {
    munmap(pack->mapped, (size_t)pack->size);
    return;
  }
#endif
  free(pack->mapped);
}

void adze_pack_close(adze_pack* pack) {
  if (pack == NULL) return;
  unmap(pack);
  free(pack->files);
  free(pack->tensors);
  free(pack->pairs);
  free(pack->frequencies);
  free(pack->eos);
  free(pack->texts);
  free(pack);
}

static adze_pack* open_mapped(const void* bytes, uint64_t size, void* mapped, int allocated, adze_pack_error* error) {
  adze_pack* const pack = calloc(1, sizeof *pack);
  if (error != NULL) error->status = ADZE_PACK_OK, error->message[0] = '\0';
  if (pack == NULL) return fail(error, ADZE_PACK_OUT_OF_MEMORY, "out of memory");
  pack->data = bytes;
  pack->size = size;
  pack->mapped = mapped;
  pack->allocated = allocated;
  if (read_head(pack, error)) return pack;
  adze_pack_close(pack);
  return NULL;
}

adze_pack* adze_pack_open_memory(const void* bytes, uint64_t size, adze_pack_error* error) {
  return open_mapped(bytes, size, NULL, 0, error);
}

#ifdef ADZE_PACK_MAPS

adze_pack* adze_pack_open(const char* path, adze_pack_error* error) {
  struct stat status;
  void* mapped = MAP_FAILED;
  const int file = open(path, O_RDONLY);
  if (file < 0) return fail(error, ADZE_PACK_NOT_FOUND, "%.150s: %s", path, strerror(errno));
  if (fstat(file, &status) == 0 && status.st_size > 0 && (uint64_t)status.st_size <= SIZE_MAX)
    mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (mapped == MAP_FAILED) return fail(error, ADZE_PACK_IO, "%.150s: cannot be mapped", path);
  return open_mapped(mapped, (uint64_t)status.st_size, mapped, 0, error);
}

#else

adze_pack* adze_pack_open(const char* path, adze_pack_error* error) {
  FILE* const file = fopen(path, "rb");
  void* bytes = NULL;
  long size = -1;
  if (file == NULL) return fail(error, ADZE_PACK_NOT_FOUND, "%.150s: cannot be opened", path);
  if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
  if (size > 0 && fseek(file, 0, SEEK_SET) == 0) bytes = malloc((size_t)size);
  if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
    fclose(file);
    free(bytes);
    return fail(error, ADZE_PACK_IO, "%.150s: cannot be read", path);
  }
  fclose(file);
  return open_mapped(bytes, (uint64_t)size, bytes, 1, error);
}

#endif

const adze_pack_model* adze_pack_get_model(const adze_pack* pack) { return &pack->model; }
size_t adze_pack_file_count(const adze_pack* pack) { return pack->file_count; }
const adze_pack_file* adze_pack_get_file(const adze_pack* pack, size_t index) { return &pack->files[index]; }
size_t adze_pack_tensor_count(const adze_pack* pack) { return pack->tensor_count; }
const adze_pack_tensor* adze_pack_get_tensor(const adze_pack* pack, size_t index) { return &pack->tensors[index]; }

const adze_pack_file* adze_pack_find_file(const adze_pack* pack, const char* name) {
  size_t i;
  for (i = 0; i < pack->file_count; ++i)
    if (strcmp(pack->files[i].name, name) == 0) return &pack->files[i];
  return NULL;
}

const adze_pack_tensor* adze_pack_find(const adze_pack* pack, const char* name) {
  size_t i;
  for (i = 0; i < pack->tensor_count; ++i)
    if (strcmp(pack->tensors[i].name, name) == 0) return &pack->tensors[i];
  return NULL;
}

// Bytes against the checksums of their pieces.
static adze_pack_status verify_pieces(const adze_pack* pack, const char* name, span data, const byte* checks,
                                      uint64_t count, adze_pack_error* error) {
  uint64_t i;
  for (i = 0; i < count; ++i) {
    const uint64_t begin = i * pack->piece_bytes, rest = size_of(data) - begin;
    const uint64_t bytes = rest < pack->piece_bytes ? rest : pack->piece_bytes;
    if (adze_pack_hash64(data.at + begin, (size_t)bytes) == read64(checks + 8 * i)) continue;
    fail(error, ADZE_PACK_BAD_DATA, "'%.100s': bytes %lu to %lu are damaged", name, (unsigned long)begin,
         (unsigned long)(begin + bytes - 1));
    return ADZE_PACK_BAD_DATA;
  }
  return ADZE_PACK_OK;
}

adze_pack_status adze_pack_verify(const adze_pack* pack, const adze_pack_tensor* tensor, adze_pack_error* error) {
  const span data = {tensor->data, tensor->data + tensor->bytes};
  return verify_pieces(pack, tensor->name, data, tensor->checks, tensor->check_count, error);
}

adze_pack_status adze_pack_verify_file(const adze_pack* pack, const adze_pack_file* file, adze_pack_error* error) {
  const span data = {file->data, file->data + file->bytes};
  return verify_pieces(pack, file->name, data, file->checks, file->check_count, error);
}

// ---- grids: value = step * level + offset, the level a code or what a code names

// Numbers of one unit: the columns whose scales are stored together. At most 16 groups of columns have steps of their
// own.
typedef struct steps {
  float step[16], offset[16];
} steps;

// A GGUF type. A block is one unit; its bytes that are no codes, in order, are its side data.
typedef struct block_type {
  const char* name;
  unsigned cols, step_cols, bytes, code_bits;
  int least, greatest;  // codes
  int holds_zero;
  unsigned side_at, side_bytes;  // side data
  unsigned more_at, more_bytes;  // their second part
  void (*read_side)(const byte* side, steps* out);
  void (*read_codes)(const byte* block, int* codes);
  const float* levels;
} block_type;

static void side_f16(const byte* side, steps* out) {
  out->step[0] = float_of_f16(read16(side));
  out->offset[0] = -0.0f;
}

static void side_f16_and_offset(const byte* side, steps* out) {
  out->step[0] = float_of_f16(read16(side));
  out->offset[0] = float_of_f16(read16(side + 2));
}

static void codes_q4_0(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 16; ++i) {
    codes[i] = (block[2 + i] & 15) - 8;
    codes[16 + i] = (block[2 + i] >> 4) - 8;
  }
}

static void codes_q4_1(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 16; ++i) {
    codes[i] = block[4 + i] & 15;
    codes[16 + i] = block[4 + i] >> 4;
  }
}

static void five_bits(const byte* low, uint32_t high, int bias, int* codes) {
  int i;
  for (i = 0; i < 16; ++i) {
    codes[i] = (low[i] & 15) + (int)(high >> i & 1) * 16 - bias;
    codes[16 + i] = (low[i] >> 4) + (int)(high >> (16 + i) & 1) * 16 - bias;
  }
}
static void codes_q5_0(const byte* block, int* codes) { five_bits(block + 6, read32(block + 2), 16, codes); }
static void codes_q5_1(const byte* block, int* codes) { five_bits(block + 8, read32(block + 4), 0, codes); }

static void codes_q8_0(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 32; ++i) codes[i] = block[2 + i] < 128 ? block[2 + i] : block[2 + i] - 256;
}

// Element 128 h + 32 j + l of 256 lies in bits 2 j of byte 32 h + l.
static void two_bits(const byte* stored, int bias, int* codes) {
  int i;
  for (i = 0; i < 256; ++i) codes[i] = (stored[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) - bias;
}
static void codes_q2_k(const byte* block, int* codes) { two_bits(block + 16, 0, codes); }
static void codes_tq2_0(const byte* block, int* codes) { two_bits(block, 1, codes); }

// 16 bytes of scale and minimum, then d and dmin.
static void side_q2_k(const byte* side, steps* out) {
  const float d = float_of_f16(read16(side + 16)), dmin = float_of_f16(read16(side + 18));
  int k;
  for (k = 0; k < 16; ++k) {
    out->step[k] = d * (float)(side[k] & 15);
    out->offset[k] = -(dmin * (float)(side[k] >> 4));
  }
}

static void codes_q3_k(const byte* block, int* codes) {
  int i;
  two_bits(block + 32, 0, codes);
  for (i = 0; i < 256; ++i) codes[i] += (block[i % 32] >> (i / 32) & 1) * 4 - 4;
}

// 16 scales of six bits in 12 bytes: four low bits in the first 8, two high ones in the last 4; then d.
static void side_q3_k(const byte* side, steps* out) {
  const float d = float_of_f16(read16(side + 12));
  int k;
  for (k = 0; k < 16; ++k) {
    const int low = side[k % 8] >> (k / 8 * 4) & 15, high = side[8 + k % 4] >> (k / 4 * 2) & 3;
    out->step[k] = d * (float)((low | high << 4) - 32);
    out->offset[k] = -0.0f;
  }
}

// d, dmin, then eight scales and eight minima of six bits in 12 bytes.
static void side_q4_k(const byte* side, steps* out) {
  const float d = float_of_f16(read16(side)), dmin = float_of_f16(read16(side + 2));
  const byte* const p = side + 4;
  int k;
  for (k = 0; k < 8; ++k) {
    const int scale = k < 4 ? p[k] & 63 : (p[k + 4] & 15) | (p[k - 4] >> 6) << 4;
    const int minimum = k < 4 ? p[k + 4] & 63 : (p[k + 4] >> 4) | (p[k] >> 6) << 4;
    out->step[k] = d * (float)scale;
    out->offset[k] = -(dmin * (float)minimum);
  }
}

// Element 64 c + 32 h + l lies in half h of byte 32 c + l.
static void codes_q4_k(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 256; ++i) codes[i] = block[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

static void codes_q5_k(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 256; ++i)
    codes[i] = (block[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15) + (block[16 + i % 32] >> (i / 32) & 1) * 16;
}

// 128 h + 32 j + l: low bits in half j / 2 of byte 64 h + 32 (j % 2) + l, high ones in bits 2 j of byte 32 h + l.
static void codes_q6_k(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 256; ++i) {
    const int h = i / 128, j = i / 32 % 4, l = i % 32;
    const int low = block[64 * h + 32 * (j % 2) + l] >> (j / 2 * 4) & 15, high = block[128 + 32 * h + l] >> (2 * j) & 3;
    codes[i] = (low | high << 4) - 32;
  }
}

static void side_q6_k(const byte* side, steps* out) {
  const float d = float_of_f16(read16(side + 16));
  int k;
  for (k = 0; k < 16; ++k) {
    out->step[k] = d * (float)(side[k] < 128 ? side[k] : side[k] - 256);
    out->offset[k] = -0.0f;
  }
}

static const float kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void codes_iq4_nl(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 16; ++i) {
    codes[i] = block[2 + i] & 15;
    codes[16 + i] = block[2 + i] >> 4;
  }
}

static void codes_iq4_xs(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 256; ++i) codes[i] = block[8 + i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
}

// d, two high bits of eight scales in two bytes, four low bits in four.
static void side_iq4_xs(const byte* side, steps* out) {
  const float d = float_of_f16(read16(side));
  int k;
  for (k = 0; k < 8; ++k) {
    const int low = side[4 + k / 2] >> (k % 2 * 4) & 15, high = side[2 + k / 4] >> (k % 4 * 2) & 3;
    out->step[k] = d * (float)((low | high << 4) - 32);
    out->offset[k] = -0.0f;
  }
}

// Levels ascending, codes their indices; a stored code has the sign in bit 3 and counts magnitudes.
static const float kE2M1[16] = {-6, -4, -3, -2, -1.5f, -1, -0.5f, -0.0f, 0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

static void codes_mxfp4(const byte* block, int* codes) {
  int i;
  for (i = 0; i < 32; ++i) {
    const int stored = block[1 + i % 16] >> (i / 16 * 4) & 15;
    codes[i] = stored < 8 ? stored + 8 : 15 - stored;
  }
}

// E8M0: 2^(e - 127); 255 is no number.
static float float_of_e8m0(byte e) {
  return float_of_bits(e == 255 ? 0x7FC00000u : e == 0 ? 0x00400000u : (uint32_t)e << 23);
}

static void side_mxfp4(const byte* side, steps* out) {
  out->step[0] = float_of_e8m0(side[0]);
  out->offset[0] = -0.0f;
}

// Trits of `count` bytes: digit n of byte j is element n * count + j.
static void trits(const byte* stored, int count, int digits, int* codes) {
  int j, n;
  for (j = 0; j < count; ++j) {
    unsigned rest = stored[j];
    for (n = 0; n < digits; ++n, rest = rest * 3 & 255) codes[n * count + j] = (int)(rest * 3 >> 8) - 1;
  }
}

static void codes_tq1_0(const byte* block, int* codes) {
  trits(block, 32, 5, codes);
  trits(block + 32, 16, 5, codes + 160);
  trits(block + 48, 4, 4, codes + 240);
}

static const block_type kBlocks[] = {
    {"q4_0", 32, 32, 18, 4, -8, 7, 1, 0, 2, 0, 0, side_f16, codes_q4_0, NULL},
    {"q4_1", 32, 32, 20, 4, 0, 15, 0, 0, 4, 0, 0, side_f16_and_offset, codes_q4_1, NULL},
    {"q5_0", 32, 32, 22, 5, -16, 15, 1, 0, 2, 0, 0, side_f16, codes_q5_0, NULL},
    {"q5_1", 32, 32, 24, 5, 0, 31, 0, 0, 4, 0, 0, side_f16_and_offset, codes_q5_1, NULL},
    {"q8_0", 32, 32, 34, 8, -127, 127, 1, 0, 2, 0, 0, side_f16, codes_q8_0, NULL},
    {"q2_k", 256, 16, 84, 2, 0, 3, 0, 0, 16, 80, 4, side_q2_k, codes_q2_k, NULL},
    {"q3_k", 256, 16, 110, 3, -4, 3, 1, 96, 14, 0, 0, side_q3_k, codes_q3_k, NULL},
    {"q4_k", 256, 32, 144, 4, 0, 15, 0, 0, 16, 0, 0, side_q4_k, codes_q4_k, NULL},
    {"q5_k", 256, 32, 176, 5, 0, 31, 0, 0, 16, 0, 0, side_q4_k, codes_q5_k, NULL},
    {"q6_k", 256, 16, 210, 6, -32, 31, 1, 192, 18, 0, 0, side_q6_k, codes_q6_k, NULL},
    {"iq4_nl", 32, 32, 18, 4, 0, 15, 0, 0, 2, 0, 0, side_f16, codes_iq4_nl, kUneven},
    {"iq4_xs", 256, 32, 136, 4, 0, 15, 0, 0, 8, 0, 0, side_iq4_xs, codes_iq4_xs, kUneven},
    {"mxfp4", 32, 32, 17, 4, 0, 15, 1, 0, 1, 0, 0, side_mxfp4, codes_mxfp4, kE2M1},
    {"tq1_0", 256, 256, 54, 2, -1, 1, 1, 52, 2, 0, 0, side_f16, codes_tq1_0, NULL},
    {"tq2_0", 256, 256, 66, 2, -1, 1, 1, 64, 2, 0, 0, side_f16, codes_tq2_0, NULL}};

// E4M3 without infinities: 448 is the largest, 127 and 255 are no numbers.
static float float_of_e4m3(unsigned bits) {
  const unsigned exponent = bits >> 3 & 15, digits = bits & 7;
  float value = (float)(exponent == 0 ? digits : 8 + digits);
  unsigned e;
  if ((bits & 127) == 127) return float_of_bits(0x7FC00000u);
  for (e = exponent > 0 ? exponent : 1; e > 10; --e) value *= 2;
  for (; e < 10; ++e) value *= 0.5f;
  return bits > 127 ? -value : value;
}

typedef enum scope { GROUP, CHANNEL, TENSOR } scope;
typedef enum small_scale { SCALE_F32, SCALE_E8M0, SCALE_E4M3 } small_scale;

// Exactly one of floats (value grids of masks), block, bits and small is not 0.
typedef struct grid {
  float_type floats;
  const block_type* block;
  unsigned bits;  // of an integer grid
  int symmetric;
  scope scope;
  uint64_t group;  // columns; of small floats 0: the row
  float_type scales;
  unsigned small;  // bits of small floats: 8, E4M3, or 4, E2M1
  small_scale small_scales;
  float divisor;  // of E4M3 scales
} grid;

static uint64_t unit_cols(const grid* g, uint64_t cols) {
  if (g->block != NULL) return g->block->cols;
  if (g->small != 0) return g->group != 0 ? g->group : cols;
  return g->bits != 0 && g->scope == GROUP ? g->group : cols;
}
static uint64_t step_cols(const grid* g, uint64_t cols) {
  return g->block != NULL ? g->block->step_cols : unit_cols(g, cols);
}
static unsigned side_bytes(const grid* g) {
  if (g->block != NULL) return g->block->side_bytes + g->block->more_bytes;
  if (g->small != 0) return g->small_scales == SCALE_F32 ? 4 : 1;
  return g->bits != 0 ? float_bytes(g->scales) + (g->symmetric ? 0 : 1) : 0;
}
static unsigned code_bits(const grid* g) {
  if (g->block != NULL) return g->block->code_bits;
  return g->small != 0 ? g->small : g->bits != 0 ? g->bits : 16;
}
static int holds_zero(const grid* g) { return g->block == NULL || g->block->holds_zero; }
static int one_side(const grid* g) { return g->bits != 0 && g->scope == TENSOR; }
static int fits(const grid* g, uint64_t cols) {
  if (cols == 0) return g->block == NULL && g->small == 0 && g->scope != GROUP;
  return cols % unit_cols(g, cols) == 0;
}

// Bytes of an integer row before its codes.
static uint64_t integer_side_bytes(const grid* g, uint64_t cols) {
  const uint64_t units = cols > 0 ? cols / unit_cols(g, cols) : 0;
  if (g->scope == TENSOR) return 0;
  return units * float_bytes(g->scales) + (g->symmetric ? 0 : packed_bytes(units, g->bits));
}

static uint64_t grid_row_bytes(const grid* g, uint64_t cols) {
  if (g->block != NULL) return cols / g->block->cols * g->block->bytes;
  if (g->small != 0) return cols / unit_cols(g, cols) * side_bytes(g) + packed_bytes(cols, g->small);
  return integer_side_bytes(g, cols) + packed_bytes(cols, g->bits);
}

static void read_side(const grid* g, const byte* side, steps* out) {
  if (g->block != NULL) {
    g->block->read_side(side, out);
  } else if (g->small != 0) {
    out->step[0] = g->small_scales == SCALE_F32    ? read_float(F32, side)
                   : g->small_scales == SCALE_E8M0 ? float_of_e8m0(side[0])
                   : side[0] > 127                 ? float_of_e4m3(127)
                                                   : float_of_e4m3(side[0]) / g->divisor;
    out->offset[0] = -0.0f;
  } else if (g->bits != 0) {
    out->step[0] = read_float(g->scales, side);
    out->offset[0] = g->symmetric ? 0.0f : -(out->step[0] * (float)side[float_bytes(g->scales)]);
  }
}

static float grid_value(const grid* g, const steps* s, unsigned group, int code) {
  const float level = g->block != NULL && g->block->levels != NULL ? g->block->levels[code] : (float)code;
  return s->step[group] * level + s->offset[group];
}

// Bit pattern of a small float by its place among all, ascending, as masks have codes.
static unsigned pattern_of(const grid* g, int index) {
  const int count = g->small == 8 ? 127 : 8, sign = g->small == 8 ? 128 : 8;
  return (unsigned)(index < count ? sign | (count - 1 - index) : index - count);
}

static float small_value(const grid* g, const steps* s, unsigned pattern) {
  const float level = g->small == 8 ? float_of_e4m3(pattern) : kE2M1[pattern < 8 ? 8 + pattern : 15 - pattern];
  return s->step[0] * level + s->offset[0];
}

// Scales of all groups, then elements; of four bits the first in the low half of a byte.
static void small_row(const grid* g, const byte* row, uint64_t cols, float* out) {
  const uint64_t width = unit_cols(g, cols);
  const byte* const elements = row + cols / width * side_bytes(g);
  uint64_t c;
  steps s;
  for (c = 0; c < cols; ++c) {
    if (c % width == 0) read_side(g, row + c / width * side_bytes(g), &s);
    out[c] = small_value(g, &s, read_bits(elements, c, g->small));
  }
}

static void block_row(const grid* g, const byte* row, uint64_t cols, float* out) {
  const block_type* const type = g->block;
  uint64_t b;
  for (b = 0; b < cols / type->cols; ++b, row += type->bytes, out += type->cols) {
    byte side[32];
    int codes[256];
    steps s;
    unsigned i;
    memcpy(side, row + type->side_at, type->side_bytes);
    memcpy(side + type->side_bytes, row + type->more_at, type->more_bytes);
    type->read_side(side, &s);
    type->read_codes(row, codes);
    for (i = 0; i < type->cols; ++i) out[i] = grid_value(g, &s, i / type->step_cols, codes[i]);
  }
}

// Scale and zero point of a group of an integer row that begins with them.
static void read_integer_side(const grid* g, const byte* row, uint64_t cols, uint64_t unit, steps* out) {
  const unsigned scale = float_bytes(g->scales);
  byte side[5];
  memcpy(side, row + unit * scale, scale);
  if (!g->symmetric) side[scale] = (byte)read_bits(row + cols / unit_cols(g, cols) * scale, unit, g->bits);
  read_side(g, side, out);
}

// head: the side data of the tensor, where it has one scale.
static void integer_row(const grid* g, const byte* head, const byte* row, uint64_t cols, float* out) {
  const uint64_t width = unit_cols(g, cols);
  const byte* const codes = row + integer_side_bytes(g, cols);
  const int shift = g->symmetric ? 1 << (g->bits - 1) : 0;
  uint64_t c;
  steps s = {{0}, {0}};
  if (g->scope == TENSOR) read_side(g, head, &s);
  for (c = 0; c < cols; ++c) {
    if (g->scope != TENSOR && c % width == 0) read_integer_side(g, row, cols, c / width, &s);
    out[c] = grid_value(g, &s, 0, (int)read_bits(codes, c, g->bits) - shift);
  }
}

// ---- matrices

typedef enum kind { FLOATS, GRID, SPARSE, PRODUCT, PIVOTED, TRAIN, SUM, MIXED_ROWS, NESTED, SIGNS, DROPPED } kind;
typedef enum pattern { UNSTRUCTURED, N_OF_M, BLOCKS, ROWS } pattern;

typedef struct mask {
  pattern pattern;
  uint64_t millionths, n, m;  // m: of n:m, or columns of a block
  int listed;                 // columns instead of bits
  const byte* bits;
  uint64_t zeros;
} mask;

struct adze_matrix {
  kind kind;
  uint64_t rows, cols;
  const byte* data;
  uint64_t bytes;  // of the payload
  span format;
  float_type floats;
  grid grid;
  mask mask;
  const byte *sides, *codes;             // SPARSE
  uint64_t *kept_before, *units_before;  // SPARSE, DROPPED: [rows], of the rows before
  byte* kept;                            // SPARSE: [cols], of one row
  adze_matrix** parts;                   // PRODUCT, SUM: two; PIVOTED: one; TRAIN: cores; MIXED_ROWS: by grid or NULL
  unsigned part_count;
  uint64_t digits[2][MOST_TRAIN], bonds[MOST_TRAIN + 1];  // TRAIN: of rows, of columns; before each core, and the last
  uint32_t* places;  // PIVOTED: [rows] columns; MIXED_ROWS: [rows], of a row among its grid's
  byte* grid_of;     // MIXED_ROWS: [rows]
  unsigned planes;   // NESTED: leading bits of codes that are stored
  int row_scales;    // SIGNS: a scale of each row
  uint64_t stream;   // DROPPED: state of the random numbers before the first
  double least;      // DROPPED: a number of [0, 1) from here on is kept
  float* row;        // [cols], what multiplying decodes into
  float *scratch, *more_scratch;
};

// While a format is read.
typedef struct preparing {
  const adze_pack* pack;
  adze_pack_error* error;
  const char* name;  // of the tensor
  int depth;
  int may_share;
  int in_train;
} preparing;

static adze_matrix* refuse_format(const preparing* p, span format) {
  return fail(p->error, ADZE_PACK_UNSUPPORTED, "tensor '%.80s': format '%.*s'", p->name,
              (int)(size_of(format) < 100 ? size_of(format) : 100), (const char*)format.at);
}
static adze_matrix* refuse_payload(const preparing* p, const char* what) {
  return fail(p->error, ADZE_PACK_BAD_DATA, "tensor '%.80s': %s", p->name, what);
}
static adze_matrix* no_memory(const preparing* p) {
  return fail(p->error, ADZE_PACK_OUT_OF_MEMORY, "tensor '%.80s': out of memory", p->name);
}

static adze_matrix* prepare(preparing* p, span format, uint64_t rows, uint64_t cols, const byte* data, uint64_t room);

void adze_matrix_free(adze_matrix* m) {
  unsigned i;
  if (m == NULL) return;
  for (i = 0; i < m->part_count; ++i) adze_matrix_free(m->parts[i]);
  free(m->parts);
  free(m->kept_before);
  free(m->units_before);
  free(m->kept);
  free(m->places);
  free(m->grid_of);
  free(m->row);
  free(m->scratch);
  free(m->more_scratch);
  free(m);
}

static adze_matrix* freed(adze_matrix* m) {
  adze_matrix_free(m);
  return NULL;
}

static float* new_floats(uint64_t count) { return malloc((size_t)(count + 1) * sizeof(float)); }

static adze_matrix* new_matrix(kind k, span format, uint64_t rows, uint64_t cols, const byte* data) {
  adze_matrix* const m = calloc(1, sizeof *m);
  if (m == NULL) return NULL;
  m->kind = k;
  m->rows = rows;
  m->cols = cols;
  m->data = data;
  m->format = format;
  m->row = new_floats(cols);
  return m->row != NULL ? m : freed(m);
}

// A matrix made of so many others, which are NULL for now.
static adze_matrix* new_composed(kind k, span format, uint64_t rows, uint64_t cols, const byte* data, unsigned parts) {
  adze_matrix* const m = new_matrix(k, format, rows, cols, data);
  if (m == NULL) return NULL;
  m->parts = calloc(parts, sizeof *m->parts);
  if (m->parts == NULL) return freed(m);
  m->part_count = parts;
  return m;
}

// Words of formats.

static int take(span* text, const char* word) {
  const size_t length = strlen(word);
  if (size_of(*text) < length || memcmp(text->at, word, length) != 0) return 0;
  text->at += length;
  return 1;
}

static int take_number(span* text, uint64_t* value) {
  const byte* const begin = text->at;
  *value = 0;
  while (text->at < text->end && *text->at >= '0' && *text->at <= '9' && text->at - begin < 18)
    *value = *value * 10 + (uint64_t)(*text->at++ - '0');
  return text->at > begin;
}

// " [...]", brackets inside counted.
static int take_bracketed(span* text, span* inside) {
  const byte* p;
  int depth = 0;
  if (!take(text, " [")) return 0;
  inside->at = text->at;
  for (p = text->at; p < text->end; ++p) {
    if (*p == '[') ++depth;
    if (*p != ']' || depth-- > 0) continue;
    inside->end = p;
    text->at = p + 1;
    return 1;
  }
  return 0;
}

// The first place of `word` in front of any bracket.
static const byte* find_word(span text, const char* word) {
  const size_t length = strlen(word);
  const byte* p;
  for (p = text.at; p < text.end && *p != '['; ++p)
    if ((size_t)(text.end - p) >= length && memcmp(p, word, length) == 0) return p;
  return NULL;
}

static int same_text(span a, span b) { return size_of(a) == size_of(b) && memcmp(a.at, b.at, (size_t)size_of(a)) == 0; }

static float_type take_float_type(span text) {
  if (take(&text, "f32")) return text.at == text.end ? F32 : NOT_FLOAT;
  if (take(&text, "f16")) return text.at == text.end ? F16 : NOT_FLOAT;
  if (take(&text, "bf16")) return text.at == text.end ? BF16 : NOT_FLOAT;
  return NOT_FLOAT;
}

static int read_block_grid(span text, grid* out) {
  size_t i;
  for (i = 0; i < sizeof kBlocks / sizeof *kBlocks; ++i) {
    span rest = text;
    if (take(&rest, kBlocks[i].name) && rest.at == rest.end) {
      out->block = &kBlocks[i];
      return 1;
    }
  }
  return 0;
}

static int is_digit(span text) { return text.at < text.end && *text.at >= '0' && *text.at <= '9'; }

// "2816.5", "1e-05": a positive number as it is written in the shortest way that names a float. Up to 18 digits and
// 10^22 are exact in double precision or nearly so, which leaves the float that is meant. No locale matters.
static int take_float(span* text, float* value) {
  uint64_t digits, exponent = 0;
  double number, power = 1;
  int scale = 0, negative;
  if (!take_number(text, &digits)) return 0;
  if (take(text, ".")) {
    if (!is_digit(*text)) return 0;
    for (; is_digit(*text) && digits < UINT64_C(100000000000000000); --scale)
      digits = digits * 10 + (uint64_t)(*text->at++ - '0');
  }
  if (take(text, "e")) {
    negative = take(text, "-");
    if (!negative) take(text, "+");
    if (!take_number(text, &exponent) || exponent > 99) return 0;
    scale += negative ? -(int)exponent : (int)exponent;
  }
  for (exponent = (uint64_t)abs(scale); exponent > 0; --exponent) power *= 10;
  number = scale < 0 ? (double)digits / power : (double)digits * power;
  if (!(number <= 3.0e38)) return 0;
  *value = (float)number;
  return *value > 0;
}

// "fp8", "fp8 g128", "mxfp8", "nvfp4", "nvfp4 / 2816.5".
static int read_small_grid(span text, grid* out) {
  out->small = 8;
  if (take(&text, "mxfp8")) {
    out->small_scales = SCALE_E8M0;
    out->group = 32;
  } else if (take(&text, "fp8")) {
    if (text.at == text.end) return 1;
    return take(&text, " g") && take_number(&text, &out->group) && out->group >= 2 && out->group <= 65536 &&
           text.at == text.end;
  } else if (take(&text, "nvfp4")) {
    out->small = 4;
    out->small_scales = SCALE_E4M3;
    out->group = 16;
    out->divisor = 512;
    if (take(&text, " / ") && !take_float(&text, &out->divisor)) return 0;
  } else {
    return 0;
  }
  return text.at == text.end;
}

// "int4 g128 sym bf16", "gguf/q4_k".
static int read_grid(span text, grid* out) {
  uint64_t bits;
  memset(out, 0, sizeof *out);
  if (take(&text, "gguf/")) return read_block_grid(text, out);
  if (read_small_grid(text, out)) return 1;
  memset(out, 0, sizeof *out);
  if (!take(&text, "int") || !take_number(&text, &bits) || bits < 2 || bits > 8) return 0;
  out->bits = (unsigned)bits;
  out->scope = GROUP;
  if (take(&text, " channel "))
    out->scope = CHANNEL;
  else if (take(&text, " tensor "))
    out->scope = TENSOR;
  else if (!take(&text, " g") || !take_number(&text, &out->group) || out->group < 2 || out->group > 65536 ||
           !take(&text, " "))
    return 0;
  out->symmetric = take(&text, "sym");
  if (!out->symmetric && !take(&text, "asym")) return 0;
  out->scales = text.at == text.end ? F16 : take(&text, " ") ? take_float_type(text) : NOT_FLOAT;
  return out->scales != NOT_FLOAT;
}

static adze_matrix* prepare_floats(preparing* p, span format, float_type type, uint64_t rows, uint64_t cols,
                                   const byte* data, uint64_t room) {
  adze_matrix* m;
  uint64_t bytes;
  if (!multiply_sizes(rows, cols * float_bytes(type), &bytes) || bytes > room)
    return refuse_payload(p, "floats that are not there");
  m = new_matrix(FLOATS, format, rows, cols, data);
  if (m == NULL) return no_memory(p);
  m->floats = type;
  m->bytes = bytes;
  return m;
}

static adze_matrix* prepare_grid(preparing* p, span format, const grid* g, uint64_t rows, uint64_t cols,
                                 const byte* data, uint64_t room) {
  const uint64_t head = one_side(g) ? side_bytes(g) : 0;
  adze_matrix* m;
  uint64_t bytes;
  if (!fits(g, cols)) return refuse_payload(p, "columns that do not divide into groups");
  if (!multiply_sizes(rows, grid_row_bytes(g, cols), &bytes) || bytes > room || head > room - bytes)
    return refuse_payload(p, "codes that are not there");
  m = new_matrix(GRID, format, rows, cols, data);
  if (m == NULL) return no_memory(p);
  m->grid = *g;
  m->bytes = head + bytes;
  return m;
}

// Masks.

// m choose n, for m up to 32.
static uint64_t binomial(uint64_t m, uint64_t n) {
  uint64_t value = 1, i;
  if (n > m) return 0;
  for (i = 1; i <= n; ++i) value = value * (m - n + i) / i;
  return value;
}

// "33.3%" in millionths.
static int take_percentage(span* text, uint64_t* millionths) {
  uint64_t whole, unit = 1000, digits = 0;
  if (!take_number(text, &whole) || whole > 100) return 0;
  *millionths = whole * 10000;
  if (take(text, "."))
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9' && digits < 4; ++digits, unit /= 10)
      *millionths += (uint64_t)(*text->at++ - '0') * unit;
  return take(text, "%") && *millionths <= 1000000;
}

static int read_pattern(span text, mask* out) {
  span rest = text;
  memset(out, 0, sizeof *out);
  out->m = 1;
  if (take_number(&rest, &out->n) && take(&rest, ":") && take_number(&rest, &out->m) && rest.at == rest.end) {
    out->pattern = N_OF_M;
    return out->m >= 2 && out->m <= 32 && out->n >= 1 && out->n < out->m;
  }
  out->m = 1;
  if (!take_percentage(&text, &out->millionths)) return 0;
  if (take(&text, " in blocks of ")) {
    out->pattern = BLOCKS;
    return take_number(&text, &out->m) && out->m >= 2 && out->m <= 65536 && text.at == text.end;
  }
  out->pattern = take(&text, " in rows") ? ROWS : UNSTRUCTURED;
  return text.at == text.end;
}

static uint64_t pruned_of(const mask* k, uint64_t count) {
  return count / 1000000 * k->millionths + count % 1000000 * k->millionths / 1000000;
}

static uint64_t zeros_of(const mask* k, uint64_t rows, uint64_t cols) {
  if (k->pattern == N_OF_M) return rows * cols / k->m * (k->m - k->n);
  if (k->pattern == BLOCKS) return pruned_of(k, rows * cols / k->m) * k->m;
  return k->pattern == ROWS ? pruned_of(k, rows) * cols : pruned_of(k, rows * cols);
}

static unsigned rank_bits(const mask* k) { return bit_width(binomial(k->m, k->n) - 1); }

// Also decides between bits and columns.
static uint64_t mask_bytes(mask* k, uint64_t rows, uint64_t cols) {
  const uint64_t by_bits = rows * packed_bytes(cols / (k->pattern == BLOCKS ? k->m : 1), 1);
  const uint64_t by_columns = rows * 4 + (rows * cols - k->zeros) * 2;
  if (k->pattern == ROWS) return packed_bytes(rows, 1);
  if (k->pattern == N_OF_M) return rows * packed_bytes(cols / k->m, rank_bits(k));
  k->listed = k->pattern == UNSTRUCTURED && cols <= 65536 && by_columns < by_bits;
  return k->listed ? by_columns : by_bits;
}

// How many weights of a row are kept; before: how many those of the rows before are. Takes as long as the row's part of
// the mask, however many columns that stands for. False: the mask is malformed.
static int count_row(const adze_matrix* m, uint64_t row, uint64_t before, uint64_t* kept) {
  const mask* const k = &m->mask;
  const uint64_t groups = m->cols / k->m;
  uint64_t i, next = 0;
  *kept = 0;
  if (k->pattern == N_OF_M) {
    const uint64_t subsets = binomial(k->m, k->n);
    const unsigned bits = rank_bits(k);
    const byte* const ranks = k->bits + row * packed_bytes(groups, bits);
    for (i = 0; i < groups; ++i)
      if (read_bits(ranks, i, bits) >= subsets) return 0;
    *kept = groups * k->n;
  } else if (k->listed) {  // ascending columns
    const byte* const columns = k->bits + 4 * m->rows + 2 * before;
    *kept = read32(k->bits + 4 * row);
    if (*kept > m->rows * m->cols - k->zeros - before) return 0;
    for (i = 0; i < *kept; ++i) {
      const uint64_t col = read16(columns + 2 * i);
      if (col < next || col >= m->cols) return 0;
      next = col + 1;
    }
  } else if (k->pattern == ROWS) {
    *kept = read_bits(k->bits, row, 1) * m->cols;
  } else {
    const byte* const bits = k->bits + row * packed_bytes(groups, 1);
    for (i = 0; i < groups; ++i) *kept += read_bits(bits, i, 1) * k->m;
  }
  return 1;
}

// Members of the subset of 0 .. m - 1 with that rank (combinatorial number system), where the k-th smallest member c
// adds c choose k.
static void subset_row(const mask* k, const byte* row, uint64_t cols, byte* kept) {
  uint64_t g;
  memset(kept, 0, (size_t)cols);
  for (g = 0; g < cols / k->m; ++g) {
    uint64_t rank = read_bits(row, g, rank_bits(k)), candidate = k->m, member;
    for (member = k->n; member > 0; --member) {
      do --candidate;
      while (binomial(candidate, member) > rank);
      kept[g * k->m + candidate] = 1;
      rank -= binomial(candidate, member);
    }
  }
}

// Which weights of a row are kept. Of a mask that count_row found to be whole.
static void mask_row(const adze_matrix* m, uint64_t row, byte* kept) {
  const mask* const k = &m->mask;
  uint64_t i;
  if (k->pattern == N_OF_M) {
    subset_row(k, k->bits + row * packed_bytes(m->cols / k->m, rank_bits(k)), m->cols, kept);
  } else if (k->listed) {
    const byte* const columns = k->bits + 4 * m->rows + 2 * m->kept_before[row];
    memset(kept, 0, (size_t)m->cols);
    for (i = 0; i < read32(k->bits + 4 * row); ++i) kept[read16(columns + 2 * i)] = 1;
  } else if (k->pattern == ROWS) {
    memset(kept, (int)read_bits(k->bits, row, 1), (size_t)m->cols);
  } else {
    const byte* const bits = k->bits + row * packed_bytes(m->cols / k->m, 1);
    for (i = 0; i < m->cols; ++i) kept[i] = (byte)read_bits(bits, i / k->m, 1);
  }
}

// Units that the pattern leaves out whole are not stored.
static int leaves_out_units(const adze_matrix* m) {
  return m->mask.pattern == ROWS || (m->mask.pattern == BLOCKS && m->mask.m % unit_cols(&m->grid, m->cols) == 0);
}

// Counts weights and units row by row. False: the mask has not the number of zeros that its pattern says.
static int count_kept(adze_matrix* m) {
  const uint64_t width = unit_cols(&m->grid, m->cols), all = m->rows * m->cols - m->mask.zeros;
  const int leaves_out = leaves_out_units(m);
  uint64_t r, in_row, kept = 0, units = 0;
  for (r = 0; r < m->rows; ++r) {
    m->kept_before[r] = kept;
    m->units_before[r] = units;
    if (!count_row(m, r, kept, &in_row)) return 0;
    kept += in_row;
    units += (leaves_out ? in_row : m->cols) / width;
    if (kept > all) return 0;
  }
  return kept == all;
}

static adze_matrix* prepare_sparse(preparing* p, span format, span values, span pattern_text, uint64_t rows,
                                   uint64_t cols, const byte* data, uint64_t room) {
  adze_matrix* const m = new_matrix(SPARSE, format, rows, cols, data);
  grid* const g = m == NULL ? NULL : &m->grid;
  uint64_t units, sides, mask_size, codes;
  if (m == NULL) return no_memory(p);
  m->grid.floats = take_float_type(values);
  if (m->grid.floats == NOT_FLOAT && !read_grid(values, g)) return refuse_format(p, format), freed(m);
  if (g->floats == F32 || !holds_zero(g) || !read_pattern(pattern_text, &m->mask))
    return refuse_format(p, format), freed(m);
  if (cols == 0 || rows == 0 || rows > room * 8 || !fits(g, cols) || cols % m->mask.m != 0)
    return refuse_payload(p, "a shape that its grid or pattern cannot have"), freed(m);
  m->mask.zeros = zeros_of(&m->mask, rows, cols);
  m->mask.bits = data;
  mask_size = mask_bytes(&m->mask, rows, cols);
  units = (leaves_out_units(m) ? rows * cols - m->mask.zeros : rows * cols) / unit_cols(g, cols);
  sides = one_side(g) ? side_bytes(g) : units * side_bytes(g);
  codes = packed_bytes(rows * cols - m->mask.zeros, code_bits(g));
  if (mask_size > room || sides > room - mask_size || codes > room - mask_size - sides)
    return refuse_payload(p, "a mask or codes that are not there"), freed(m);
  m->bytes = mask_size + sides + codes;
  m->sides = data + mask_size;
  m->codes = m->sides + sides;
  m->kept_before = malloc((size_t)rows * sizeof *m->kept_before);
  m->units_before = malloc((size_t)rows * sizeof *m->units_before);
  m->kept = malloc((size_t)cols);
  if (m->kept_before == NULL || m->units_before == NULL || m->kept == NULL) return no_memory(p), freed(m);
  if (!count_kept(m)) return refuse_payload(p, "a mask that is not of its pattern"), freed(m);
  return m;
}

static void sparse_row(adze_matrix* m, uint64_t row, float* out) {
  const grid* const g = &m->grid;
  const uint64_t width = unit_cols(g, m->cols), step = step_cols(g, m->cols);
  const int leaves_out = leaves_out_units(m), least = g->block != NULL ? g->block->least
                                                      : g->symmetric   ? -(1 << (g->bits - 1))
                                                                       : 0;
  const int greatest = g->block != NULL ? g->block->greatest : g->small == 8 ? 253 : 15;  // of those that may be beyond
  uint64_t c, next = m->kept_before[row], unit = m->units_before[row];
  steps s = {{0}, {0}};
  mask_row(m, row, m->kept);
  if (one_side(g)) read_side(g, m->sides, &s);
  for (c = 0; c < m->cols; ++c) {
    if (c % width == 0 && g->floats == NOT_FLOAT && !one_side(g) && (!leaves_out || m->kept[c]))
      read_side(g, m->sides + unit++ * side_bytes(g), &s);
    out[c] = 0;
    if (!m->kept[c]) continue;
    if (g->floats != NOT_FLOAT) {
      byte bits[4] = {0, 0, 0, 0}; /* of f16 and bf16 two; as wide as any float */
      const uint32_t code = read_bits(m->codes, next++, 16);
      bits[0] = (byte)code;
      bits[1] = (byte)(code >> 8);
      out[c] = read_float(g->floats, bits);
    } else {
      int code = (int)read_bits(m->codes, next++, code_bits(g)) + least;
      if (g->bits == 0 && code > greatest) code = greatest;
      out[c] = g->small != 0 ? small_value(g, &s, pattern_of(g, code))
                             : grid_value(g, &s, (unsigned)(c % width / step), code);
    }
  }
}

// Matrices made of others.

static adze_matrix* prepare_sum(preparing* p, span format, const byte* plus, uint64_t rows, uint64_t cols,
                                const byte* data, uint64_t room) {
  adze_matrix* const m = new_composed(SUM, format, rows, cols, data, 2);
  const span base = {format.at, plus}, correction = {plus + 3, format.end};
  if (m == NULL) return no_memory(p);
  m->parts[0] = prepare(p, base, rows, cols, data, room);
  if (m->parts[0] == NULL) return freed(m);
  m->bytes = m->parts[0]->bytes;
  m->parts[1] = prepare(p, correction, rows, cols, data + m->bytes, room - m->bytes);
  if (m->parts[1] == NULL) return freed(m);
  m->bytes += m->parts[1]->bytes;
  m->scratch = new_floats(cols);
  return m->scratch != NULL ? m : (no_memory(p), freed(m));
}

static adze_matrix* prepare_product(preparing* p, span format, span rest, uint64_t rows, uint64_t cols,
                                    const byte* data, uint64_t room) {
  adze_matrix* m;
  span left, right;
  uint64_t rank;
  if (!take_number(&rest, &rank) || !take_bracketed(&rest, &left) || !take_bracketed(&rest, &right) ||
      rest.at != rest.end)
    return refuse_format(p, format);
  if (rank == 0 || rank > (rows > cols ? rows : cols)) return refuse_payload(p, "a rank beyond both sides");
  m = new_composed(PRODUCT, format, rows, cols, data, 2);
  if (m == NULL) return no_memory(p);
  m->parts[0] = prepare(p, left, rows, rank, data, room);
  if (m->parts[0] == NULL) return freed(m);
  m->bytes = m->parts[0]->bytes;
  m->parts[1] = prepare(p, right, rank, cols, data + m->bytes, room - m->bytes);
  if (m->parts[1] == NULL) return freed(m);
  m->bytes += m->parts[1]->bytes;
  m->scratch = new_floats(rank);
  m->more_scratch = new_floats(cols);
  return m->scratch != NULL && m->more_scratch != NULL ? m : (no_memory(p), freed(m));
}

static adze_matrix* prepare_pivoted(preparing* p, span format, span rest, uint64_t rows, uint64_t cols,
                                    const byte* data, uint64_t room) {
  const unsigned bits = bit_width(cols - 1) > 0 ? bit_width(cols - 1) : 1;
  const uint64_t head = packed_bytes(rows, bits);
  adze_matrix* m;
  byte* seen;
  uint64_t i;
  if (rows > cols || cols == 0 || head > room) return refuse_payload(p, "pivots that are not there");
  m = new_composed(PIVOTED, format, rows, cols, data, 1);
  if (m == NULL) return no_memory(p);
  m->parts[0] = prepare(p, rest, rows, cols - rows, data + head, room - head);
  if (m->parts[0] == NULL) return freed(m);
  m->bytes = head + m->parts[0]->bytes;
  m->places = malloc((size_t)rows * sizeof *m->places + 1);
  m->scratch = new_floats(cols);
  m->kept = seen = calloc((size_t)cols, 1);  // which columns are pivots
  if (m->places == NULL || m->scratch == NULL || seen == NULL) return no_memory(p), freed(m);
  for (i = 0; i < rows; ++i) {
    m->places[i] = read_bits(data, i, bits);
    if (m->places[i] >= cols || seen[m->places[i]]++)
      return refuse_payload(p, "a pivot that is no column, or comes twice"), freed(m);
  }
  return m;
}

static void pivoted_row(adze_matrix* m, uint64_t row, float* out) {
  uint64_t c, next = 0;
  adze_matrix_row(m->parts[0], row, m->scratch);
  for (c = 0; c < m->cols; ++c) out[c] = m->kept[c] ? 0.0f : m->scratch[next++];
  out[m->places[row]] = 1.0f;
}

// "shared MODULE [FORMAT]": the right factor of that module's product.
static adze_matrix* prepare_shared(preparing* p, span format, span rest, uint64_t rows, uint64_t cols) {
  const byte* const space = memchr(rest.at, ' ', (size_t)size_of(rest));
  span module, inside;
  size_t i;
  if (space == NULL || !p->may_share) return refuse_format(p, format);
  module.at = rest.at;
  module.end = rest.at = space;
  if (!take_bracketed(&rest, &inside) || rest.at != rest.end) return refuse_format(p, format);
  for (i = 0; i < p->pack->tensor_count; ++i) {
    const adze_pack_tensor* const owner = &p->pack->tensors[i];
    const span name = {(const byte*)owner->module, (const byte*)owner->module + strlen(owner->module)};
    const span text = {(const byte*)owner->format, (const byte*)owner->format + strlen(owner->format)};
    adze_matrix *whole, *right = NULL;
    if (owner->role != ADZE_PACK_LINEAR || !same_text(name, module)) continue;
    p->may_share = 0;  // an owner shares nothing itself
    whole = prepare(p, text, owner->rows, owner->cols, owner->data, owner->bytes);
    p->may_share = 1;
    if (whole == NULL) return NULL;
    if (whole->kind == PRODUCT && same_text(whole->parts[1]->format, inside) && whole->parts[1]->rows == rows &&
        whole->parts[1]->cols == cols) {
      right = whole->parts[1];
      whole->parts[1] = NULL;
      right->bytes = 0;  // of this tensor's payload
    }
    adze_matrix_free(whole);
    return right != NULL ? right : refuse_payload(p, "a shared factor that its owner has not");
  }
  return refuse_payload(p, "a shared factor that nobody has");
}

static int take_digits(span* text, uint64_t* digits, unsigned* count) {
  *count = 0;
  do {
    if (*count == MOST_TRAIN || !take_number(text, &digits[*count]) || digits[*count] == 0) return 0;
    ++*count;
  } while (take(text, "x"));
  return 1;
}

// "16x16 by 16x48 bonds 64 [f16]".
static adze_matrix* prepare_train(preparing* p, span format, span rest, uint64_t rows, uint64_t cols, const byte* data,
                                  uint64_t room) {
  adze_matrix* const m = new_composed(TRAIN, format, rows, cols, data, MOST_TRAIN);
  unsigned counts[3], k;
  uint64_t whole[2] = {1, 1}, most = 0;
  span values;
  if (m == NULL) return no_memory(p);
  if (p->in_train) return refuse_format(p, format), freed(m);
  if (!take_digits(&rest, m->digits[0], &counts[0]) || !take(&rest, " by ") ||
      !take_digits(&rest, m->digits[1], &counts[1]) || !take(&rest, " bonds ") ||
      !take_digits(&rest, m->bonds + 1, &counts[2]) || !take_bracketed(&rest, &values) || rest.at != rest.end ||
      counts[0] < 2 || counts[1] != counts[0] || counts[2] + 1 != counts[0])
    return refuse_format(p, format), freed(m);
  m->part_count = counts[0];
  m->bonds[0] = m->bonds[counts[0]] = 1;
  for (k = 0; k < counts[0]; ++k) {
    uint64_t floats;
    if (!multiply_sizes(whole[0], m->digits[0][k], &whole[0]) ||
        !multiply_sizes(whole[1], m->digits[1][k], &whole[1]) || whole[0] > rows || whole[1] > cols ||
        !multiply_sizes(whole[1], m->bonds[k + 1], &floats) || floats > MOST_TRAIN_FLOATS)
      return refuse_payload(p, "a train of another shape, or with bonds that are too large"), freed(m);
    if (floats > most) most = floats;
  }
  if (whole[0] != rows || whole[1] != cols) return refuse_payload(p, "a train of another shape"), freed(m);
  for (k = 0; k < counts[0]; ++k) {
    p->in_train = 1;
    m->parts[k] = prepare(p, values, m->bonds[k] * m->digits[0][k], m->digits[1][k] * m->bonds[k + 1], data + m->bytes,
                          room - m->bytes);
    p->in_train = 0;
    if (m->parts[k] == NULL) return freed(m);
    m->bytes += m->parts[k]->bytes;
    if (m->parts[k]->cols > most) most = m->parts[k]->cols;
  }
  m->scratch = new_floats(2 * most);  // what is contracted so far, and with one core more
  m->more_scratch = new_floats(most);
  return m->scratch != NULL && m->more_scratch != NULL ? m : (no_memory(p), freed(m));
}

static void train_row(adze_matrix* m, uint64_t row, float* out) {
  uint64_t height = m->rows, contracted = 1;
  float *from = m->scratch, *to;
  uint64_t most = 1, c, b, i;
  unsigned k;
  for (k = 0; k < m->part_count; ++k) {  // so large is the first half of the scratch
    uint64_t width = 1;
    unsigned l;
    for (l = 0; l <= k; ++l) width *= m->digits[1][l];
    if (width * m->bonds[k + 1] > most) most = width * m->bonds[k + 1];
  }
  to = from + most;
  from[0] = 1;
  for (k = 0; k < m->part_count; ++k) {
    const uint64_t bond = m->bonds[k], width = m->parts[k]->cols, digit = row / (height / m->digits[0][k]);
    float* const swap = from;
    height /= m->digits[0][k];
    row %= height;
    memset(to, 0, (size_t)(contracted * width) * sizeof *to);
    for (b = 0; b < bond; ++b) {
      adze_matrix_row(m->parts[k], b * m->digits[0][k] + digit, m->more_scratch);
      for (c = 0; c < contracted; ++c)
        for (i = 0; i < width; ++i) to[c * width + i] += from[c * bond + b] * m->more_scratch[i];
    }
    contracted *= m->digits[1][k];
    from = to;
    to = swap;
  }
  memcpy(out, from, (size_t)m->cols * sizeof *out);
}

// "96 bytes [zero] [int2 g128 sym]".
static adze_matrix* prepare_mixed_rows(preparing* p, span format, span rest, uint64_t rows, uint64_t cols,
                                       const byte* data, uint64_t room) {
  adze_matrix* const m = new_composed(MIXED_ROWS, format, rows, cols, data, MOST_GRIDS);
  grid grids[MOST_GRIDS];
  int zero[MOST_GRIDS];
  uint32_t* counts = NULL;
  uint64_t capacity, used, r;
  unsigned count = 0, bits, i;
  span inside;
  if (m == NULL) return no_memory(p);
  if (!take_number(&rest, &capacity) || !take(&rest, " bytes")) return refuse_format(p, format), freed(m);
  while (rest.at < rest.end) {
    if (count == MOST_GRIDS || !take_bracketed(&rest, &inside)) return refuse_format(p, format), freed(m);
    zero[count] = size_of(inside) == 4 && memcmp(inside.at, "zero", 4) == 0;
    if (!zero[count] && (!read_grid(inside, &grids[count]) || one_side(&grids[count])))
      return refuse_format(p, format), freed(m);
    ++count;
  }
  if (count == 0) return refuse_format(p, format), freed(m);
  bits = bit_width(count - 1);
  used = packed_bytes(rows, bits);
  if (capacity == 0 || !multiply_sizes(rows, capacity, &m->bytes) || m->bytes > room || used > m->bytes)
    return refuse_payload(p, "rows that are not there"), freed(m);
  m->grid_of = calloc((size_t)rows + 1, 1);
  m->places = malloc(((size_t)rows + 1) * sizeof *m->places);
  counts = calloc(count, sizeof *counts);
  if (m->grid_of == NULL || m->places == NULL || counts == NULL) return free(counts), no_memory(p), freed(m);
  for (r = 0; r < rows; ++r) {
    if (bits > 0) m->grid_of[r] = (byte)read_bits(data, r, bits);
    if (m->grid_of[r] >= count) return free(counts), refuse_payload(p, "a row of a grid that is not named"), freed(m);
    m->places[r] = counts[m->grid_of[r]]++;
  }
  m->part_count = count;
  for (i = 0; i < count; ++i) {
    if (zero[i] || counts[i] == 0) continue;
    m->parts[i] = prepare_grid(p, format, &grids[i], counts[i], cols, data + used, m->bytes - used);
    if (m->parts[i] == NULL) return free(counts), freed(m);
    used += m->parts[i]->bytes;
  }
  free(counts);
  return m;
}

// "4 of int8 g64 asym": scales and zero points of all rows, then planes of bits, the leading one first.
static adze_matrix* prepare_nested(preparing* p, span format, span rest, uint64_t rows, uint64_t cols, const byte* data,
                                   uint64_t room) {
  adze_matrix* m;
  uint64_t planes, bytes;
  grid g;
  if (!take_number(&rest, &planes) || !take(&rest, " of ") || !read_grid(rest, &g) || g.bits == 0 || one_side(&g) ||
      planes < 1 || planes > g.bits)
    return refuse_format(p, format);
  if (!fits(&g, cols)) return refuse_payload(p, "columns that do not divide into groups");
  if (!multiply_sizes(rows, integer_side_bytes(&g, cols) + planes * packed_bytes(cols, 1), &bytes) || bytes > room)
    return refuse_payload(p, "planes that are not there");
  m = new_matrix(NESTED, format, rows, cols, data);
  if (m == NULL) return no_memory(p);
  m->grid = g;
  m->planes = (unsigned)planes;
  m->bytes = bytes;
  return m;
}

// What a code's stored bits stand for is the middle of what the others leave open.
static void nested_row(const adze_matrix* m, uint64_t row, float* out) {
  const grid* const g = &m->grid;
  const uint64_t side = integer_side_bytes(g, m->cols), plane_row = packed_bytes(m->cols, 1),
                 width = unit_cols(g, m->cols);
  const byte* const planes = m->data + m->rows * side;
  const float middle = 0.5f * (float)((1u << (g->bits - m->planes)) - 1);
  const float origin = g->symmetric ? (float)(1u << (g->bits - 1)) : 0.0f;
  uint64_t c;
  unsigned p;
  steps s = {{0}, {0}};
  for (c = 0; c < m->cols; ++c) {
    unsigned code = 0;
    if (c % width == 0) read_integer_side(g, m->data + row * side, m->cols, c / width, &s);
    for (p = 0; p < m->planes; ++p)
      code |= read_bits(planes + (p * m->rows + row) * plane_row, c, 1) << (g->bits - 1 - p);
    out[c] = s.step[0] * ((float)code + middle - origin) + s.offset[0];
  }
}

// "per row" or "per matrix": scales of f16, then a bit a weight, set where it is negative.
static adze_matrix* prepare_signs(preparing* p, span format, span rest, uint64_t rows, uint64_t cols, const byte* data,
                                  uint64_t room) {
  const int row_scales = take(&rest, "per row");
  const uint64_t scales = row_scales ? rows : 1;
  uint64_t bytes;
  adze_matrix* m;
  if ((!row_scales && !take(&rest, "per matrix")) || rest.at != rest.end) return refuse_format(p, format);
  if (!multiply_sizes(rows, packed_bytes(cols, 1), &bytes) || bytes > room || 2 * scales > room - bytes)
    return refuse_payload(p, "signs that are not there");
  m = new_matrix(SIGNS, format, rows, cols, data);
  if (m == NULL) return no_memory(p);
  m->row_scales = row_scales;
  m->codes = data + 2 * scales;
  m->bytes = 2 * scales + bytes;
  return m;
}

static void signs_row(const adze_matrix* m, uint64_t row, float* out) {
  const float scale = float_of_f16(read16(m->data + (m->row_scales ? 2 * row : 0)));
  const byte* const signs = m->codes + row * packed_bytes(m->cols, 1);
  uint64_t c;
  for (c = 0; c < m->cols; ++c) out[c] = read_bits(signs, c, 1) != 0 ? -scale : scale;
}

// SplitMix64; number `index` of those that follow `state`, in [0, 1).
static double uniform_at(uint64_t state, uint64_t index) {
  uint64_t z = state + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  z ^= z >> 31;
  return (double)(z >> 11) / 9007199254740992.0;  // 2^53
}

static int is_kept(const adze_matrix* m, uint64_t row, uint64_t c) {
  return uniform_at(m->stream, row * m->cols + c) >= m->least;
}

// "90% seed 7 keeps 1234 of NAME": a factor of f32, then f16 of what is kept.
static adze_matrix* prepare_dropped(preparing* p, span format, span rest, uint64_t rows, uint64_t cols,
                                    const byte* data, uint64_t room) {
  uint64_t millionths, seed, kept, count, r, c, before = 0;
  adze_matrix* m;
  if (!take_percentage(&rest, &millionths) || millionths > 999000 || !take(&rest, " seed ") ||
      !take_number(&rest, &seed) || !take(&rest, " keeps ") || !take_number(&rest, &kept) || !take(&rest, " of ") ||
      rest.at == rest.end)
    return refuse_format(p, format);
  // A mask of the largest probability leaves four times as many.
  if (!multiply_sizes(rows, cols, &count) || cols == 0 || kept > room / 2 || count / 4000 > kept + 16 ||
      4 + 2 * kept > room)
    return refuse_payload(p, "kept values that are not there");
  m = new_matrix(DROPPED, format, rows, cols, data);
  if (m == NULL) return no_memory(p);
  m->stream = adze_pack_hash64(rest.at, (size_t)size_of(rest)) ^ seed * UINT64_C(0x9E3779B97F4A7C15);
  m->least = (double)millionths / 1000000.0;
  m->bytes = 4 + 2 * kept;
  m->kept_before = malloc((size_t)(rows + 1) * sizeof *m->kept_before);
  if (m->kept_before == NULL) return no_memory(p), freed(m);
  for (r = 0; r < rows; ++r) {
    m->kept_before[r] = before;
    for (c = 0; c < cols; ++c) before += (uint64_t)is_kept(m, r, c);
  }
  if (before != kept) return refuse_payload(p, "another number of kept values than the mask has"), freed(m);
  return m;
}

static void dropped_row(const adze_matrix* m, uint64_t row, float* out) {
  const float factor = read_float(F32, m->data);
  const byte* next = m->data + 4 + 2 * m->kept_before[row];
  uint64_t c;
  for (c = 0; c < m->cols; ++c) {
    out[c] = 0;
    if (!is_kept(m, row, c)) continue;
    out[c] = factor * float_of_f16(read16(next));
    next += 2;
  }
}

static adze_matrix* prepare(preparing* p, span format, uint64_t rows, uint64_t cols, const byte* data, uint64_t room) {
  const float_type floats = take_float_type(format);
  const byte* at;
  adze_matrix* m;
  span rest = format;
  uint64_t count;
  grid g;
  if (rows > MOST_ROWS || cols > MOST_COLS || !multiply_sizes(rows, cols, &count) || p->depth == MOST_DEPTH)
    return fail(p->error, ADZE_PACK_UNSUPPORTED, "tensor '%.80s': a shape or format beyond the limits of this reader",
                p->name);
  if (floats != NOT_FLOAT) return prepare_floats(p, format, floats, rows, cols, data, room);
  ++p->depth;
  if ((at = find_word(format, " + ")) != NULL)
    m = prepare_sum(p, format, at, rows, cols, data, room);
  else if (take(&rest, "rank "))
    m = prepare_product(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "shared "))
    m = prepare_shared(p, format, rest, rows, cols);
  else if (take(&rest, "train "))
    m = prepare_train(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "pivoted "))
    m = prepare_pivoted(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "rows of "))
    m = prepare_mixed_rows(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "planes "))
    m = prepare_nested(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "signs "))
    m = prepare_signs(p, format, rest, rows, cols, data, room);
  else if (take(&rest, "dropped "))
    m = prepare_dropped(p, format, rest, rows, cols, data, room);
  else if ((at = find_word(format, ", ")) != NULL) {
    const span values = {format.at, at}, pattern_text = {at + 2, format.end};
    m = prepare_sparse(p, format, values, pattern_text, rows, cols, data, room);
  } else if (read_grid(format, &g))
    m = prepare_grid(p, format, &g, rows, cols, data, room);
  else
    m = refuse_format(p, format);
  --p->depth;
  return m;
}

adze_matrix* adze_matrix_prepare(const adze_pack* pack, const adze_pack_tensor* tensor, adze_pack_error* error) {
  const span format = {(const byte*)tensor->format, (const byte*)tensor->format + strlen(tensor->format)};
  preparing p = {pack, error, tensor->name, 0, 1, 0};
  adze_matrix* const m = prepare(&p, format, tensor->rows, tensor->cols, tensor->data, tensor->bytes);
  if (m != NULL && m->bytes != tensor->bytes) return refuse_payload(&p, "more bytes than its format takes"), freed(m);
  return m;
}

// ---- the calls

uint64_t adze_matrix_rows(const adze_matrix* m) { return m->rows; }
uint64_t adze_matrix_cols(const adze_matrix* m) { return m->cols; }

static void float_row(const adze_matrix* m, uint64_t row, float* out) {
  const unsigned width = float_bytes(m->floats);
  const byte* const p = m->data + row * m->cols * width;
  uint64_t c;
  for (c = 0; c < m->cols; ++c) out[c] = read_float(m->floats, p + c * width);
}

static void grid_row(const adze_matrix* m, uint64_t row, float* out) {
  const uint64_t head = one_side(&m->grid) ? side_bytes(&m->grid) : 0;
  const byte* const p = m->data + head + row * grid_row_bytes(&m->grid, m->cols);
  if (m->grid.block != NULL)
    block_row(&m->grid, p, m->cols, out);
  else if (m->grid.small != 0)
    small_row(&m->grid, p, m->cols, out);
  else
    integer_row(&m->grid, m->data, p, m->cols, out);
}

static void product_row(adze_matrix* m, uint64_t row, float* out) {
  uint64_t k, c;
  adze_matrix_row(m->parts[0], row, m->scratch);
  for (c = 0; c < m->cols; ++c) out[c] = 0;
  for (k = 0; k < m->parts[1]->rows; ++k) {
    adze_matrix_row(m->parts[1], k, m->more_scratch);
    for (c = 0; c < m->cols; ++c) out[c] += m->scratch[k] * m->more_scratch[c];
  }
}

static void sum_row(adze_matrix* m, uint64_t row, float* out) {
  uint64_t c;
  adze_matrix_row(m->parts[0], row, out);
  adze_matrix_row(m->parts[1], row, m->scratch);
  for (c = 0; c < m->cols; ++c) out[c] += m->scratch[c];
}

static void mixed_row(adze_matrix* m, uint64_t row, float* out) {
  adze_matrix* const part = m->parts[m->grid_of[row]];
  uint64_t c;
  if (part != NULL)
    adze_matrix_row(part, m->places[row], out);
  else
    for (c = 0; c < m->cols; ++c) out[c] = 0;
}

void adze_matrix_row(adze_matrix* m, uint64_t row, float* out) {
  switch (m->kind) {
    case FLOATS:
      float_row(m, row, out);
      break;
    case GRID:
      grid_row(m, row, out);
      break;
    case SPARSE:
      sparse_row(m, row, out);
      break;
    case PRODUCT:
      product_row(m, row, out);
      break;
    case PIVOTED:
      pivoted_row(m, row, out);
      break;
    case TRAIN:
      train_row(m, row, out);
      break;
    case SUM:
      sum_row(m, row, out);
      break;
    case MIXED_ROWS:
      mixed_row(m, row, out);
      break;
    case NESTED:
      nested_row(m, row, out);
      break;
    case SIGNS:
      signs_row(m, row, out);
      break;
    case DROPPED:
      dropped_row(m, row, out);
      break;
  }
}

static double dot(const float* a, const float* b, uint64_t count) {
  double sum[4] = {0, 0, 0, 0};
  uint64_t i;
  for (i = 0; i + 4 <= count; i += 4) {
    sum[0] += (double)a[i] * b[i];
    sum[1] += (double)a[i + 1] * b[i + 1];
    sum[2] += (double)a[i + 2] * b[i + 2];
    sum[3] += (double)a[i + 3] * b[i + 3];
  }
  for (; i < count; ++i) sum[0] += (double)a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// y += W x
static void add_product(adze_matrix* m, const float* x, float* y) {
  uint64_t r;
  if (m->kind == SUM) {
    add_product(m->parts[0], x, y);
    add_product(m->parts[1], x, y);
  } else if (m->kind == PRODUCT) {  // through the rank, which is what makes it small
    for (r = 0; r < m->parts[1]->rows; ++r) m->scratch[r] = 0;
    add_product(m->parts[1], x, m->scratch);
    add_product(m->parts[0], m->scratch, y);
  } else {
    for (r = 0; r < m->rows; ++r) {
      adze_matrix_row(m, r, m->row);
      y[r] += (float)dot(m->row, x, m->cols);
    }
  }
}

void adze_matrix_multiply(adze_matrix* m, const float* x, float* y) {
  uint64_t r;
  for (r = 0; r < m->rows; ++r) y[r] = 0;
  add_product(m, x, y);
}

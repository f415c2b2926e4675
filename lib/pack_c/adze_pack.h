// A reader of packs (docs/pack-format.md) in C99, to be copied: this file, adze_pack.c, and nothing else.
//
// It maps a file, checks its manifest, finds tensors and multiplies with them as they are stored: floats, small floats
// (FP8, MXFP8, NVFP4), integer grids, GGUF's block grids, masks, products, pivoted and shared factors, tensor trains,
// sums, mixed rows, nested codes, signs, dropped values. What it does not know is refused with ADZE_PACK_UNSUPPORTED
// and its name. It trusts no number of a file, calls no program's exit, and keeps no state outside of what it returns.
// Plain loops: a reference, not a fast runtime.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adze_pack_status {
  ADZE_PACK_OK = 0,
  ADZE_PACK_NOT_FOUND,    // no such file, or no tensor of that name
  ADZE_PACK_IO,           // reading failed
  ADZE_PACK_BAD_DATA,     // damaged, or not a pack
  ADZE_PACK_UNSUPPORTED,  // a version, an encoding or a format that this reader does not know
  ADZE_PACK_OUT_OF_MEMORY
} adze_pack_status;

// What went wrong, in words. Wherever one is asked for, NULL will do.
typedef struct adze_pack_error {
  adze_pack_status status;
  char message[256];
} adze_pack_error;

typedef struct adze_pack adze_pack;      // an open file
typedef struct adze_matrix adze_matrix;  // a tensor, ready for decoding

typedef struct adze_pack_pair {
  const char *key, *value;
} adze_pack_pair;

// The model record. Texts end with NUL; everything lives as long as the pack.
typedef struct adze_pack_model {
  const char *name, *family;
  uint64_t hidden, ffn, layers, heads, kv_heads, head_dim, vocab, max_positions;
  uint64_t sliding_window;  // 0: full attention
  double norm_eps;
  int tied, qkv_bias, o_bias, mlp_bias;
  int has_more;         // settings of pack.proto that are not in this struct and not at their defaults: do not compute
                        // then; nor for a family that you do not know, whose blocks may have more tensors
  uint64_t rotary_dim;  // elements of a head that are rotated, the first ones: head_dim, or fewer
  uint64_t position_rows;  // of a table of learned positions, which has_more stands for, too; 0: there is a RoPE
  const double* rope_frequencies;  // [rotary_dim / 2], angle per position of element i with element i + rotary_dim / 2;
                                   // NULL where positions are learned
  int has_bos;
  int32_t bos_id;
  const int32_t* eos_ids;
  size_t eos_count;
  const adze_pack_pair* provenance;
  size_t provenance_count;
} adze_pack_model;

typedef struct adze_pack_file {
  const char* name;
  const unsigned char* data;  // in the mapped file
  uint64_t bytes;
  const unsigned char* checks;  // XXH3-64 of each piece
  uint64_t check_count;
} adze_pack_file;

typedef enum adze_pack_role {
  ADZE_PACK_EMBEDDING = 1,
  ADZE_PACK_LINEAR,
  ADZE_PACK_NORM,
  ADZE_PACK_BIAS,
  ADZE_PACK_HEAD,
  ADZE_PACK_ROUTER,
  ADZE_PACK_POSITIONS
} adze_pack_role;

typedef struct adze_pack_tensor {
  const char *name, *module, *format;
  int role;        // adze_pack_role
  int dimensions;  // 2: [rows x cols]; 1: a vector, rows is 1
  uint64_t rows, cols;
  const unsigned char* data;  // the payload, in the mapped file; begins at a multiple of 64
  uint64_t bytes;
  const unsigned char* checks;  // XXH3-64 of each piece
  uint64_t check_count;
} adze_pack_tensor;

// Opens a file; NULL, and why in *error, when that fails. The manifest is checked against its checksums, the data are
// not (adze_pack_verify does that).
adze_pack* adze_pack_open(const char* path, adze_pack_error* error);
// The same of bytes in memory, which must stay.
adze_pack* adze_pack_open_memory(const void* bytes, uint64_t size, adze_pack_error* error);
// NULL is allowed. Matrices of the pack must be freed before.
void adze_pack_close(adze_pack* pack);

const adze_pack_model* adze_pack_get_model(const adze_pack* pack);
size_t adze_pack_file_count(const adze_pack* pack);
const adze_pack_file* adze_pack_get_file(const adze_pack* pack, size_t index);
const adze_pack_file* adze_pack_find_file(const adze_pack* pack, const char* name);  // NULL when there is none
size_t adze_pack_tensor_count(const adze_pack* pack);
const adze_pack_tensor* adze_pack_get_tensor(const adze_pack* pack, size_t index);
const adze_pack_tensor* adze_pack_find(const adze_pack* pack, const char* name);  // NULL when there is none

// Compares a tensor's bytes with its checksums. At the first piece that differs: ADZE_PACK_BAD_DATA, the message says
// which bytes.
adze_pack_status adze_pack_verify(const adze_pack* pack, const adze_pack_tensor* tensor, adze_pack_error* error);

// The same of a file.
adze_pack_status adze_pack_verify_file(const adze_pack* pack, const adze_pack_file* file, adze_pack_error* error);

// Reads a tensor's format and prepares what decoding needs. NULL, and why in *error, when that fails. A matrix has
// scratch memory: one thread at a time may use it; others prepare their own.
adze_matrix* adze_matrix_prepare(const adze_pack* pack, const adze_pack_tensor* tensor, adze_pack_error* error);
void adze_matrix_free(adze_matrix* matrix);  // NULL is allowed
uint64_t adze_matrix_rows(const adze_matrix* matrix);
uint64_t adze_matrix_cols(const adze_matrix* matrix);
// Row `row` < rows as floats. out: [cols]
void adze_matrix_row(adze_matrix* matrix, uint64_t row, float* out);
// y = W x. x: [cols], y: [rows]
void adze_matrix_multiply(adze_matrix* matrix, const float* x, float* y);

// XXH3 of 64 bits with its default secret and seed 0.
uint64_t adze_pack_hash64(const void* bytes, size_t size);

#ifdef __cplusplus
}
#endif

/* The reader of packs from C: looks at every file and tensor of the packs that are named, decodes every row and
   compares products with sums over rows. Ends with 0 when all is well. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pack_c/adze_pack.h"

static int problems = 0;

static void expect(int fine, const char* what, const char* where) {
  if (fine) return;
  printf("%s: %s\n", where, what);
  ++problems;
}

static void check_tensor(const adze_pack* pack, const adze_pack_tensor* tensor) {
  adze_pack_error error;
  adze_matrix* const matrix = adze_matrix_prepare(pack, tensor, &error);
  float *row, *x, *y;
  uint64_t r, c;
  expect(adze_pack_verify(pack, tensor, &error) == ADZE_PACK_OK, "is damaged", tensor->name);
  expect(matrix != NULL, error.message, tensor->name);
  if (matrix == NULL) return;
  row = calloc((size_t)tensor->cols + 1, sizeof *row);
  x = calloc((size_t)tensor->cols + 1, sizeof *x);
  y = calloc((size_t)tensor->rows + 1, sizeof *y);
  for (c = 0; c < tensor->cols; ++c) x[c] = (float)(c % 7) - 3;
  adze_matrix_multiply(matrix, x, y);
  for (r = 0; r < tensor->rows; ++r) {
    double sum = 0, size = 0;
    adze_matrix_row(matrix, r, row);
    for (c = 0; c < tensor->cols; ++c) {
      sum += (double)row[c] * x[c];
      size += fabs((double)row[c] * x[c]);
    }
    expect(fabs(sum - y[r]) <= 1e-5 * size, "a product that is not the sum over the row", tensor->name);
  }
  free(row);
  free(x);
  free(y);
  adze_matrix_free(matrix);
}

static void check_pack(const char* path) {
  adze_pack_error error;
  adze_pack* const pack = adze_pack_open(path, &error);
  size_t i;
  expect(pack != NULL, error.message, path);
  if (pack == NULL) return;
  expect(adze_pack_get_model(pack)->layers > 0, "no layers", path);
  expect(adze_pack_find_file(pack, "config.json") != NULL, "no config.json", path);
  expect(adze_pack_find(pack, "no such tensor") == NULL, "a tensor that is not there", path);
  for (i = 0; i < adze_pack_file_count(pack); ++i) {
    const adze_pack_file* const file = adze_pack_get_file(pack, i);
    expect(adze_pack_find_file(pack, file->name) == file, "is not found", file->name);
    expect(adze_pack_verify_file(pack, file, &error) == ADZE_PACK_OK, error.message, path);
  }
  for (i = 0; i < adze_pack_tensor_count(pack); ++i) {
    const adze_pack_tensor* const tensor = adze_pack_get_tensor(pack, i);
    expect((size_t)(tensor->data - (const unsigned char*)0) % 64 == 0, "is not aligned", tensor->name);
    expect(adze_pack_find(pack, tensor->name) == tensor, "is not found", tensor->name);
    check_tensor(pack, tensor);
  }
  printf("%s: %lu tensors\n", path, (unsigned long)adze_pack_tensor_count(pack));
  adze_pack_close(pack);
}

int main(int argc, char** argv) {
  adze_pack_error error;
  int i;
  expect(adze_pack_open("no/such/file", &error) == NULL && error.status == ADZE_PACK_NOT_FOUND, "is found",
         "no/such/file");
  expect(adze_pack_open("no/such/file", NULL) == NULL, "is found", "no/such/file");
  expect(adze_pack_open_memory("short", 5, &error) == NULL && error.status == ADZE_PACK_BAD_DATA, "is a pack", "short");
  adze_pack_close(NULL);
  adze_matrix_free(NULL);
  for (i = 1; i < argc; ++i) check_pack(argv[i]);
  return problems == 0 ? 0 : 1;
}

// Runs the model of a pack, token by token: what a runtime needs to know of packs, in C99 with adze_pack.h and libm. A
// Llama: RMS norm, RoPE, grouped queries with a key/value cache, a gated SiLU FFN; weights are multiplied with as they
// are stored, whatever their format. Plain and slow.
//
//   pack_run MODEL.adze 1 340 22                     the most likely token after these
//   pack_run MODEL.adze --generate 20 1 340 22       and 19 after it
//   pack_run MODEL.adze --logits 1 340 22            a line of logits for each position
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pack_c/adze_pack.h"

typedef struct linear {
  adze_matrix* weight;  // [out x in]
  float* bias;          // [out], or NULL
} linear;

typedef struct block {
  float *input_norm, *post_attention_norm;  // [hidden]
  linear q, k, v, o, gate, up, down;
  float *keys, *values;  // [positions x kv_heads * head_dim]
} block;

typedef struct model {
  adze_pack* pack;
  const adze_pack_model* shape;
  adze_matrix *embedding, *head;
  block* blocks;
  float* final_norm;
  // One position's activations.
  float *x, *normed, *q, *mix, *gate, *up, *logits, *scores;
} model;

static void fail(const char* message) {
  fprintf(stderr, "pack_run: %s\n", message);
  exit(1);
}

static float* new_floats(size_t count) {
  float* const floats = calloc(count + 1, sizeof *floats);
  if (floats == NULL) fail("out of memory");
  return floats;
}

// ---- loading

static const adze_pack_tensor* tensor_of(const model* m, const char* name, uint64_t rows, uint64_t cols) {
  const adze_pack_tensor* const tensor = adze_pack_find(m->pack, name);
  adze_pack_error error;
  if (tensor == NULL) fail(name);
  if (tensor->rows != rows || tensor->cols != cols) fail("a tensor has another shape than the model says");
  if (adze_pack_verify(m->pack, tensor, &error) != ADZE_PACK_OK) fail(error.message);
  return tensor;
}

static adze_matrix* matrix_of(const model* m, const char* name, uint64_t rows, uint64_t cols) {
  adze_pack_error error;
  adze_matrix* const matrix = adze_matrix_prepare(m->pack, tensor_of(m, name, rows, cols), &error);
  if (matrix == NULL) fail(error.message);
  return matrix;
}

static float* vector_of(const model* m, const char* name, uint64_t size) {
  adze_matrix* const row = matrix_of(m, name, 1, size);
  float* const values = new_floats((size_t)size);
  adze_matrix_row(row, 0, values);
  adze_matrix_free(row);
  return values;
}

static linear linear_of(const model* m, unsigned layer, const char* module, uint64_t rows, uint64_t cols, int biased) {
  linear made = {NULL, NULL};
  char name[128];
  snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, module);
  made.weight = matrix_of(m, name, rows, cols);
  snprintf(name, sizeof name, "model.layers.%u.%s.bias", layer, module);
  if (biased) made.bias = vector_of(m, name, rows);
  return made;
}

static void load_block(const model* m, unsigned layer, size_t positions, block* out) {
  const adze_pack_model* const s = m->shape;
  const uint64_t q_width = s->heads * s->head_dim, kv_width = s->kv_heads * s->head_dim;
  char name[128];
  snprintf(name, sizeof name, "model.layers.%u.input_layernorm.weight", layer);
  out->input_norm = vector_of(m, name, s->hidden);
  snprintf(name, sizeof name, "model.layers.%u.post_attention_layernorm.weight", layer);
  out->post_attention_norm = vector_of(m, name, s->hidden);
  out->q = linear_of(m, layer, "self_attn.q_proj", q_width, s->hidden, s->qkv_bias);
  out->k = linear_of(m, layer, "self_attn.k_proj", kv_width, s->hidden, s->qkv_bias);
  out->v = linear_of(m, layer, "self_attn.v_proj", kv_width, s->hidden, s->qkv_bias);
  out->o = linear_of(m, layer, "self_attn.o_proj", s->hidden, q_width, s->o_bias);
  out->gate = linear_of(m, layer, "mlp.gate_proj", s->ffn, s->hidden, s->mlp_bias);
  out->up = linear_of(m, layer, "mlp.up_proj", s->ffn, s->hidden, s->mlp_bias);
  out->down = linear_of(m, layer, "mlp.down_proj", s->hidden, s->ffn, s->mlp_bias);
  out->keys = new_floats(positions * (size_t)kv_width);
  out->values = new_floats(positions * (size_t)kv_width);
}

// The sizes multiply to something that fits; that they are those of the tensors, tensor_of() checks.
static void check_sizes(const adze_pack_model* s) {
  const uint64_t most = (uint64_t)1 << 24;
  if (s->hidden > most || s->ffn > most || s->heads > 65536 || s->head_dim > 65536 || s->layers > 65536 ||
      s->vocab > (uint64_t)1 << 31 || s->kv_heads == 0 || s->kv_heads > s->heads || s->heads % s->kv_heads != 0)
    fail("sizes that no Llama has");
}

// Families whose blocks are those of Llama, but for biases.
static void check_family(const adze_pack_model* s) {
  static const char* const known[] = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"};
  size_t i;
  for (i = 0; i < sizeof known / sizeof *known; ++i)
    if (strcmp(s->family, known[i]) == 0 && !s->has_more) return;
  fail("a model that this example does not compute: its blocks are not those of Llama");
}

static void load(model* m, const char* path, size_t positions) {
  adze_pack_error error;
  const adze_pack_model* s;
  unsigned layer;
  m->pack = adze_pack_open(path, &error);
  if (m->pack == NULL) fail(error.message);
  s = m->shape = adze_pack_get_model(m->pack);
  check_sizes(s);
  check_family(s);
  m->embedding = matrix_of(m, "model.embed_tokens.weight", s->vocab, s->hidden);
  m->head = s->tied ? m->embedding : matrix_of(m, "lm_head.weight", s->vocab, s->hidden);
  m->final_norm = vector_of(m, "model.norm.weight", s->hidden);
  m->blocks = calloc((size_t)s->layers + 1, sizeof *m->blocks);
  if (m->blocks == NULL) fail("out of memory");
  for (layer = 0; layer < s->layers; ++layer) load_block(m, layer, positions, &m->blocks[layer]);
  m->x = new_floats((size_t)s->hidden);
  m->normed = new_floats((size_t)s->hidden);
  m->q = new_floats((size_t)(s->heads * s->head_dim));
  m->mix = new_floats((size_t)(s->heads * s->head_dim));
  m->gate = new_floats((size_t)s->ffn);
  m->up = new_floats((size_t)s->ffn);
  m->logits = new_floats((size_t)s->vocab);
  m->scores = new_floats(positions);
}

static void free_linear(linear l) {
  adze_matrix_free(l.weight);
  free(l.bias);
}

static void unload(model* m) {
  float* const floats[] = {m->final_norm, m->x, m->normed, m->q, m->mix, m->gate, m->up, m->logits, m->scores};
  uint64_t layer;
  size_t i;
  for (layer = 0; layer < m->shape->layers; ++layer) {
    block* const b = &m->blocks[layer];
    const linear linears[] = {b->q, b->k, b->v, b->o, b->gate, b->up, b->down};
    for (i = 0; i < sizeof linears / sizeof *linears; ++i) free_linear(linears[i]);
    free(b->input_norm);
    free(b->post_attention_norm);
    free(b->keys);
    free(b->values);
  }
  for (i = 0; i < sizeof floats / sizeof *floats; ++i) free(floats[i]);
  free(m->blocks);
  if (m->head != m->embedding) adze_matrix_free(m->head);
  adze_matrix_free(m->embedding);
  adze_pack_close(m->pack);
}

// ---- the forward pass of one position

static void rms_norm(const float* x, const float* weight, uint64_t size, double eps, float* out) {
  double sum = 0;
  float scale;
  uint64_t i;
  for (i = 0; i < size; ++i) sum += (double)x[i] * x[i];
  scale = (float)(1.0 / sqrt(sum / (double)size + eps));
  for (i = 0; i < size; ++i) out[i] = x[i] * scale * weight[i];
}

static void apply(const linear* l, const float* x, float* y) {
  uint64_t r;
  adze_matrix_multiply(l->weight, x, y);
  for (r = 0; l->bias != NULL && r < adze_matrix_rows(l->weight); ++r) y[r] += l->bias[r];
}

static void rotate(const adze_pack_model* s, float* heads, uint64_t count, size_t position) {
  const uint64_t half = s->rotary_dim / 2;
  uint64_t h, i;
  for (h = 0; h < count; ++h, heads += s->head_dim)
    for (i = 0; i < half; ++i) {
      const double angle = (double)position * s->rope_frequencies[i];
      const float cosine = (float)cos(angle), sine = (float)sin(angle), low = heads[i], high = heads[i + half];
      heads[i] = low * cosine - high * sine;
      heads[i + half] = high * cosine + low * sine;
    }
}

// Scores of one head's query against the keys it sees, as probabilities.
static void attend(const model* m, const float* query, const float* keys, size_t first, size_t end) {
  const adze_pack_model* const s = m->shape;
  const size_t kv_width = (size_t)(s->kv_heads * s->head_dim);
  double largest = -HUGE_VAL, sum = 0;
  size_t t;
  uint64_t i;
  for (t = first; t < end; ++t) {
    double score = 0;
    for (i = 0; i < s->head_dim; ++i) score += (double)query[i] * keys[t * kv_width + i];
    m->scores[t] = (float)(score / sqrt((double)s->head_dim));
    if (m->scores[t] > largest) largest = m->scores[t];
  }
  for (t = first; t < end; ++t) sum += m->scores[t] = (float)exp(m->scores[t] - largest);
  for (t = first; t < end; ++t) m->scores[t] = (float)(m->scores[t] / sum);
}

static void attention(const model* m, const block* b, size_t position) {
  const adze_pack_model* const s = m->shape;
  const size_t kv_width = (size_t)(s->kv_heads * s->head_dim), end = position + 1;
  const size_t first = s->sliding_window != 0 && end > s->sliding_window ? end - (size_t)s->sliding_window : 0;
  uint64_t h, i;
  size_t t;
  for (h = 0; h < s->heads; ++h) {
    const uint64_t column = h / (s->heads / s->kv_heads) * s->head_dim;
    float* const out = m->mix + h * s->head_dim;
    attend(m, m->q + h * s->head_dim, b->keys + column, first, end);
    for (i = 0; i < s->head_dim; ++i) out[i] = 0;
    for (t = first; t < end; ++t)
      for (i = 0; i < s->head_dim; ++i) out[i] += m->scores[t] * b->values[t * kv_width + column + i];
  }
}

static void add(float* x, const float* more, uint64_t size) {
  uint64_t i;
  for (i = 0; i < size; ++i) x[i] += more[i];
}

static void run_block(const model* m, const block* b, size_t position) {
  const adze_pack_model* const s = m->shape;
  const size_t at = position * (size_t)(s->kv_heads * s->head_dim);
  uint64_t i;
  rms_norm(m->x, b->input_norm, s->hidden, s->norm_eps, m->normed);
  apply(&b->q, m->normed, m->q);
  apply(&b->k, m->normed, b->keys + at);
  apply(&b->v, m->normed, b->values + at);
  rotate(s, m->q, s->heads, position);
  rotate(s, b->keys + at, s->kv_heads, position);
  attention(m, b, position);
  apply(&b->o, m->mix, m->normed);
  add(m->x, m->normed, s->hidden);
  rms_norm(m->x, b->post_attention_norm, s->hidden, s->norm_eps, m->normed);
  apply(&b->gate, m->normed, m->gate);
  apply(&b->up, m->normed, m->up);
  for (i = 0; i < s->ffn; ++i) m->up[i] *= (float)(m->gate[i] / (1.0 + exp(-(double)m->gate[i])));
  apply(&b->down, m->up, m->normed);
  add(m->x, m->normed, s->hidden);
}

// m->logits of the token after this one.
static void run_token(const model* m, unsigned long id, size_t position) {
  uint64_t layer;
  if (id >= m->shape->vocab) fail("a token that the vocabulary does not have");
  adze_matrix_row(m->embedding, id, m->x);
  for (layer = 0; layer < m->shape->layers; ++layer) run_block(m, &m->blocks[layer], position);
  rms_norm(m->x, m->final_norm, m->shape->hidden, m->shape->norm_eps, m->normed);
  adze_matrix_multiply(m->head, m->normed, m->logits);
}

static unsigned long most_likely(const model* m) {
  uint64_t i, best = 0;
  for (i = 1; i < m->shape->vocab; ++i)
    if (m->logits[i] > m->logits[best]) best = i;
  return (unsigned long)best;
}

static int ends(const model* m, unsigned long id) {
  size_t i;
  for (i = 0; i < m->shape->eos_count; ++i)
    if (m->shape->eos_ids[i] >= 0 && (unsigned long)m->shape->eos_ids[i] == id) return 1;
  return 0;
}

static void print_logits(const model* m) {
  uint64_t i;
  for (i = 0; i < m->shape->vocab; ++i) printf(i == 0 ? "%.9g" : " %.9g", m->logits[i]);
  printf("\n");
}

// ---- the command line

static unsigned long number(const char* text) {
  char* end;
  const unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != '\0') fail("token ids are numbers");
  return value;
}

int main(int argc, char** argv) {
  model m;
  unsigned long generate = 1;
  int logits = 0, at = 2;
  size_t position = 0, given;
  memset(&m, 0, sizeof m);
  for (; at < argc && argv[at][0] == '-'; ++at) {
    if (strcmp(argv[at], "--logits") == 0)
      logits = 1;
    else if (strcmp(argv[at], "--generate") == 0 && at + 1 < argc)
      generate = number(argv[++at]);
    else
      fail("options are --logits and --generate N");
  }
  if (at >= argc) fail("usage: pack_run MODEL.adze [--logits] [--generate N] ID...");
  given = (size_t)(argc - at);
  if (generate > 1000000) fail("--generate is at most 1000000");
  load(&m, argv[1], given + generate);
  for (; position < given; ++position) {
    run_token(&m, number(argv[at + (int)position]), position);
    if (logits) print_logits(&m);
  }
  for (; !logits && position < given + generate; ++position) {
    const unsigned long id = most_likely(&m);
    printf("%lu\n", id);
    if (ends(&m, id) || position + 1 == given + generate) break;
    run_token(&m, id, position);
  }
  unload(&m);
  return 0;
}

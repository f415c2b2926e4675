#include "pipeline/allocation/shape_race.h"

#include "base/error.h"

namespace adze {
namespace {

/// What a shape cannot keep puts it out of the race, unless it is the only one.
template <typename Body>
void try_shape(ModelShape& shape, bool is_alone, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    if (is_alone || error.kind() != ErrorKind::bad_recipe) throw;
    shape.refusal = error.message();
  }
}

}  // namespace

std::vector<ModelShape> prepare_shapes(const Recipe& recipe, const OpenedModel& model,
                                       const AllocationRequest& request) {
  std::vector<ModelShape> shapes;
  for (Recipe& shape : shapes_of(recipe)) {
    std::string name = shape_in_words(shape);
    shapes.push_back({std::move(shape), std::move(name)});
  }
  if (shapes.size() > 1 && !request.measure->in_kl && request.evaluations == 0)
    fail(ErrorKind::usage,
         "models of several shapes are compared by KL, which {} does not predict: take --measure kl, or "
         "let --evaluations measure it",
         request.measure->name);
  if (!request.statistics.empty() && !shapes.front().recipe.transforms.empty())
    fail(ErrorKind::usage, "--stats is of the model as it is, which this recipe always transforms: leave it out");
  if (shapes.size() > 1) check_plan(shapes.back().recipe, model);  // mistakes in transforms are no reason to do without
  for (ModelShape& shape : shapes)
    try_shape(shape, shapes.size() == 1,
              [&] { shape.prepared.emplace(prepare_allocation(shape.recipe, model, request)); });
  return shapes;
}

const ModelShape& best_of(const std::vector<ModelShape>& shapes) {
  const ModelShape* best = nullptr;
  for (const ModelShape& shape : shapes)
    if (shape.result && (best == nullptr || is_better(shape.recipe, *shape.result, *best->result))) best = &shape;
  if (best == nullptr) fail(ErrorKind::bad_recipe, "{}", shapes.front().refusal);
  return *best;
}

void run_shapes(std::vector<ModelShape>& shapes, SolutionStore& store, Progress& progress) {
  for (ModelShape& shape : shapes) {
    if (!shape.prepared) continue;
    try_shape(shape, shapes.size() == 1, [&] {
      make_model(*shape.prepared, store.folder() / SolutionStore::kModels, progress);
      shape.result.emplace(allocate_modules(*shape.prepared, store, progress));
      if (shapes.size() > 1 && !shape.prepared->request.measure->in_kl && !shape.result->judged)
        fail(ErrorKind::usage,
             "models of several shapes are compared by KL, and none could be measured: take --measure kl, or a larger "
             "--disk");
    });
  }
}

}  // namespace adze

// Scale searches of grids with a step and an offset for each group of up to 256 values: value = step * code + offset,
// codes from zero. Sixteen candidates are tried at once, one in each lane; errors follow from sums in closed form.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace adze {

constexpr std::size_t kMostSearchCols = 256;

/// Candidates put (highest - lowest) at largest_code, and at codes first + apart .. first + 15 * apart.
struct AffineSearch {
  float largest_code = 0;
  float first = 0;
  float apart = 0;
  bool any_offset = false;  ///< else offset <= 0, and zero lies in the range
};

/// What a group's weights add up to. lo, hi: extremes of the values of positive weight (of all, when none has), with
/// zero among them unless any_offset.
struct GroupFit {
  float step = 0;  ///< >= 0
  float offset = 0;
  float w = 0;   ///< sum w
  float x = 0;   ///< sum w x
  float xx = 0;  ///< sum w x^2
  float l = 0;   ///< sum w l over the best codes l
  float ll = 0;  ///< sum w l^2
  float xl = 0;  ///< sum w x l
};

/// The best step and offset of each group of fits.size() groups, by a 2 x 2 weighted least squares per candidate. x and
/// weight: equally long, cut into groups of equal length. Not stored yet.
void search_affine(std::span<const float> x, std::span<const float> weight, const AffineSearch& search,
                   std::span<GroupFit> fits);

/// Groups whose steps and offsets are integers times shared floats: step = d * scale, offset = -(dmin * min).
struct SharedScales {
  static constexpr std::size_t kMostGroups = 16;

  float d = 0;
  float dmin = 0;
  std::array<float, kMostGroups> scale{};
  std::array<float, kMostGroups> min{};
};

/// Normal equations of (d, dmin) with codes and integers fixed: [aa ab; ab bb] [d; dmin] = [ax; bx]. Groups whose scale
/// is zero are left out.
struct SharedFit {
  double aa = 0;
  double ab = 0;
  double bb = 0;
  double ax = 0;
  double bx = 0;

  /// The squared error less what does not depend on d and dmin.
  double error(double d, double dmin) const {
    return d * (d * aa - 2 * ax) + dmin * (dmin * bb - 2 * bx) + 2 * d * dmin * ab;
  }
};

/// Moves the integers of each group to those of least error among their neighbours, between 0 and largest_integer, for
/// the codes that the fits' sums are of; ties keep what is there. Looks at no weights: cheap.
SharedFit settle_integers(float largest_integer, std::span<const GroupFit> fits, SharedScales& scales);

/// The same for the codes nearest to x, by the errors that they then have. fits: w, x and xx of each group.
SharedFit search_integers(std::span<const float> x, std::span<const float> weight, float largest_code,
                          float largest_integer, std::span<const GroupFit> fits, SharedScales& scales);

}  // namespace adze

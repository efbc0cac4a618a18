// Colours of maps. Anchors of two ramps, between which numbers are mixed.

/** From dark violet over red to light yellow: the ramp of `sparseclip explain --overlay`. */
const HEAT = [[20, 11, 52], [120, 28, 109], [207, 68, 70], [251, 155, 6], [252, 255, 164]];
/** Below the map's mean, and above it. */
const BELOW = [38, 92, 158];
const ABOVE = [[236, 150, 60], [200, 66, 20], [122, 16, 24]];

/** Beyond so many standard deviations a colour says no more. */
export const MOST_Z = 3;

function mix(anchors, share) {
  const at = Math.max(0, Math.min(1, share)) * (anchors.length - 1);
  const low = Math.min(Math.floor(at), anchors.length - 2);
  return anchors[low].map((value, i) => value + (at - low) * (anchors[low + 1][i] - value));
}

function css([red, green, blue], alpha) {
  return `rgba(${Math.round(red)}, ${Math.round(green)}, ${Math.round(blue)}, ${alpha.toFixed(3)})`;
}

/** The colour of a patch whose activation is z standard deviations from the map's mean. */
export function zColor(z) {
  const share = Math.min(1, Math.abs(z) / MOST_Z);
  return z < 0 ? css(BELOW, 0.5 * share) : css(mix(ABOVE, share), 0.12 + 0.64 * share);
}

/** The colour of a patch whose activation is this share of the strongest one. */
export function rawColor(share) {
  return css(mix(HEAT, share), share <= 0 ? 0.1 : 0.25 + 0.55 * share);
}

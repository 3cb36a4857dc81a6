// Random numbers as a pure function of integers: trm/support/counter_rng.py, bit for bit.

const GOLDEN = 0x9e3779b97f4a7c15n; // 2^64 over the golden ratio
const MIX_1 = 0xbf58476d1ce4e5b9n;
const MIX_2 = 0x94d049bb133111ebn;

/** Scramble 64 bits; a bijection. */
export function mix(bits) {
  bits = BigInt.asUintN(64, bits + GOLDEN);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 30n)) * MIX_1);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 27n)) * MIX_2);
  return bits ^ (bits >> 31n);
}

/** Fold integers into a key. */
export function key(...words) {
  return words.reduce((folded, word) => mix(folded ^ BigInt.asUintN(64, BigInt(word))), 0n);
}

/** Return draw `index` of a key, 63 bits. */
export function draw(key, index) {
  return BigInt.asUintN(63, mix(key ^ mix(BigInt(index))));
}

/** Return `count` float32 of the standard normal; two of them come of one draw (Box and Muller). */
export function normal(key, count) {
  const half = Math.ceil(count / 2);
  const drawn = new Float32Array(2 * half);
  for (let i = 0; i < half; i++) {
    const bits = draw(key, i);
    const radius = f32(Math.sqrt(-2 * f32(Math.log1p(-fraction(bits >> 39n)))));
    const angle = f32(f32(2 * Math.PI) * fraction((bits >> 15n) & 0xffffffn));
    drawn[i] = radius * f32(Math.cos(angle));
    drawn[half + i] = radius * f32(Math.sin(angle));
  }
  return drawn.subarray(0, count);
}

const f32 = Math.fround;
const fraction = (bits) => Number(bits) / 2 ** 24;

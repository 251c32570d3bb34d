//! Quantiles that judging needs: of the normal distribution, and the upper confidence limit of a rate.

use super::math::ln_beta;
use libm::{exp, fabs, log, log1p, sqrt};

/// `z` with `P(Z <= z) = p` for a standard normal Z, 0 < p < 1 (Wichura's algorithm AS 241, to about 1e-16).
pub fn normal(p: f64) -> f64 {
    let q = p - 0.5;
    if fabs(q) <= 0.425 {
        let r = 0.180625 - q * q;
        return q * rational(r, &CENTER);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let r = sqrt(-log(tail));
    let z = if r <= 5.0 { rational(r - 1.6, &MIDDLE) } else { rational(r - 5.0, &FAR) };
    if q < 0.0 { -z } else { z }
}

/// The upper limit of a rate after `errors` of `n`, wrong with probability 1 - `confidence` (Clopper and Pearson):
/// that quantile of Beta(errors + 1, n - errors). 1 if everything failed.
pub fn rate_upper_limit(errors: u64, n: u64, confidence: f64) -> f64 {
    if errors >= n {
        return 1.0;
    }
    let (a, b) = (errors as f64 + 1.0, (n - errors) as f64);
    let (mut low, mut high) = (0.0, 1.0);
    // Halving down to neighboring numbers; about 60 steps, more for limits near 0.
    for _ in 0..1_100 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if beta_below(a, b, middle) < confidence { low = middle } else { high = middle }
    }
    low + (high - low) / 2.0
}

/// `P(X <= x)` for X of Beta(a, b), both positive, 0 < x < 1.
fn beta_below(a: f64, b: f64, x: f64) -> f64 {
    let front = exp(a * log(x) + b * log1p(-x) - ln_beta(a, b));
    // The fraction converges fast below the mean, so the other tail is taken above it.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |y: f64| if fabs(y) < TINY { TINY } else { y };
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let (mut c, mut sum) = (1.0, d);
    for m in (1..10_000).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            step = c * d;
            sum *= step;
        }
        if fabs(step - 1.0) < 1e-16 {
            break;
        }
    }
    sum
}

/// Numerator and denominator, highest power first.
type Rational = ([f64; 8], [f64; 8]);

fn rational(x: f64, (above, below): &Rational) -> f64 {
    let value = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    value(above) / value(below)
}

const CENTER: Rational = (
    [
        2.509_080_928_730_122_7e3,
        3.343_057_558_358_813e4,
        6.726_577_092_700_87e4,
        4.592_195_393_154_987e4,
        1.373_169_376_550_946e4,
        1.971_590_950_306_551_3e3,
        1.331_416_678_917_843_8e2,
        3.387_132_872_796_366_5,
    ],
    [
        5.226_495_278_852_854e3,
        2.872_908_573_572_194_3e4,
        3.930_789_580_009_271e4,
        2.121_379_430_158_659_7e4,
        5.394_196_021_424_751e3,
        6.871_870_074_920_579e2,
        4.231_333_070_160_091e1,
        1.0,
    ],
);

const MIDDLE: Rational = (
    [
        7.745_450_142_783_414e-4,
        2.272_384_498_926_918_4e-2,
        2.417_807_251_774_506e-1,
        1.270_458_252_452_368_4,
        3.647_848_324_763_204_5,
        5.769_497_221_460_691,
        4.630_337_846_156_546,
        1.423_437_110_749_683_5,
    ],
    [
        1.050_750_071_644_416_9e-9,
        5.475_938_084_995_345e-4,
        1.519_866_656_361_645_7e-2,
        1.481_039_764_274_800_8e-1,
        6.897_673_349_851e-1,
        1.676_384_830_183_803_8,
        2.053_191_626_637_759,
        1.0,
    ],
);

const FAR: Rational = (
    [
        2.010_334_399_292_288_1e-7,
        2.711_555_568_743_487_6e-5,
        1.242_660_947_388_078_4e-3,
        2.653_218_952_657_612_4e-2,
        2.965_605_718_285_048_7e-1,
        1.784_826_539_917_291_3,
        5.463_784_911_164_114,
        6.657_904_643_501_103,
    ],
    [
        2.044_263_103_389_939_8e-15,
        1.421_511_758_316_446e-7,
        1.846_318_317_510_054_7e-5,
        7.868_691_311_456_133e-4,
        1.487_536_129_085_061_5e-2,
        1.369_298_809_227_358e-1,
        5.998_322_065_558_88e-1,
        1.0,
    ],
);

// Bilinear enlarging of an axis, corners not aligned: place `at` of `to` lies at (at + 1/2)*from/to - 1/2 of the `from`
// places, not before the first; beyond the last is the last. Whole numbers, as on the host, so that what is gathered is
// what was spread: in units of 1/(2*to), a place lies at (2*at + 1)*from - to.
#pragma once
#include "types.cuh"

namespace {

struct Axis {
    uint32_t from, to;
    float unit;

    DEVICE Axis(uint32_t from, uint32_t to) : from(from), to(to), unit(1.f / float(2 * to)) {}

    DEVICE int past(uint32_t at) const { return max(int((2 * at + 1) * from) - int(to), 0); }

    /// The places that `at` is made of, and the share of the second.
    struct Taps {
        uint32_t first, second;
        float share;
    };
    DEVICE Taps taps(uint32_t at) const {
        const uint32_t units = past(at), first = units / (2 * to);
        if (first + 1 >= from) return {first, first, 0.f};
        return {first, first + 1, float(units - first * 2 * to) * unit};
    }

    /// The places of the larger side that `place` is part of, from `begin` to before `end`.
    DEVICE uint32_t begin(uint32_t place) const {
        return place == 0 ? 0 : ceil_div(to * (2 * place - 1) / from, 2u);
    }
    DEVICE uint32_t end(uint32_t place) const { return min(ceil_div(to * (2 * place + 3), from) / 2, to); }

    /// How `place` is part of `at`, which it must be: between the place before and itself, or between itself and the
    /// next; the share of the second of the two, and its own.
    struct Part {
        bool before;
        float share, own;
    };
    DEVICE Part part(uint32_t at, uint32_t place) const {
        const int units = past(at) - int(2 * to * place);
        if (units < 0) {
            const float share = float(units + int(2 * to)) * unit;
            return {true, share, share};
        }
        const float share = place + 1 < from ? float(units) * unit : 0.f;
        return {false, share, 1.f - share};
    }
};

/// What lies between `first` and `second`.
DEVICE float between(float first, float second, float share) { return (1.f - share) * first + share * second; }

}  // namespace

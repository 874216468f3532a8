package traffic

import "math/bits"

// picker decides which work a call is for.  It has no state: the seed, a stream (one for each caller of a closed loop, one for an open
// loop) and the number of the call in it decide, so that callers share nothing and the order does not depend on who is quick.
type picker struct {
	seed   uint64
	upTo   []uint64 // sums of the weights
	weight uint64   // all of them
}

func newPicker(seed uint64, works []Work) picker {
	p := picker{seed: seed}
	for _, w := range works {
		p.weight += uint64(w.Weight)
		p.upTo = append(p.upTo, p.weight)
	}
	return p
}

// pick returns the index of the work of call n in a stream.
func (p picker) pick(stream, n uint64) int {
	if len(p.upTo) == 1 {
		return 0
	}
	at, _ := bits.Mul64(mix(mix(p.seed+mix(stream))+n), p.weight) // even over 0 … weight-1, but for 1 in 2^44
	work := 0
	for at >= p.upTo[work] {
		work++
	}
	return work
}

// mix is a step of the SplitMix64 generator (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

package argon2id

import "golang.org/x/sys/cpu"

var fast = cpu.X86.HasAVX2

// compress is G: out = P(previous ^ reference) ^ previous ^ reference, and ^ out where with is all ones (it is zero
// else). out may be previous. scratch is overwritten. It needs AVX2. spec: RFC9106 §3.5
//
//go:noescape
func compress(out, previous, reference, scratch *block, with uint64)

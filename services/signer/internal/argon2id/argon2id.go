// Package argon2id is Argon2id, version 1.3, for a process that has other things to do meanwhile.
//
// It gives what golang.org/x/crypto/argon2.IDKey gives, bit for bit (the tests compare them), and where the processor
// has AVX2 it does so in about half the processor time; elsewhere it calls that package. A lane lets others run all
// the while, so that a hash of 20 ms does not make every other call of the process one of 20 ms, and the memory of one
// hash serves the next.
//
// It owns the fill of the memory and nothing else: BLAKE2b is golang.org/x/crypto/blake2b. It refuses Argon2i,
// Argon2d, secrets and associated data, which nobody here uses. Parameters are the caller's to check.
//
// spec: RFC9106 §3
package argon2id

import (
	"encoding/binary"
	"runtime"
	"sync"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/blake2b"
)

const (
	version    = 0x13
	argon2idID = 2
	slices     = 4   // of a pass; lanes wait for each other after each. spec: RFC9106 §3.4
	words      = 128 // of a block
	blockSize  = words * 8
	// between is how many blocks a lane fills before it lets others run: some 50 µs.
	between = 128
)

// block is 1024 bytes, as 64-bit words in little-endian order. spec: RFC9106 §3.5
type block [words]uint64

// Key hashes a password with passes over memoryKiB of memory, in as many lanes as run side by side, into size bytes.
// passes and lanes are 1 at least, size 4. It panics where they are not.
func Key(password, salt []byte, passes, memoryKiB uint32, lanes uint8, size uint32) []byte {
	if passes < 1 || lanes < 1 || size < 4 {
		panic("argon2id: a parameter is below what RFC 9106 allows")
	}
	if !fast {
		return argon2.IDKey(password, salt, passes, memoryKiB, lanes, size)
	}
	f := fill{lanes: uint32(lanes), passes: passes}
	f.segment = max(memoryKiB/(slices*f.lanes), 2) // spec: RFC9106 §3.2, m'
	f.lane = slices * f.segment
	memory := borrow(int(f.lanes * f.lane))
	defer free.Put(memory)
	f.blocks = *memory
	f.first(seed(password, salt, passes, memoryKiB, f.lanes, size))
	f.run()
	return f.last(size)
}

// free are memories that no hash uses now. What is in them is overwritten by the next, never read.
var free sync.Pool

func borrow(blocks int) *[]block {
	if m, ok := free.Get().(*[]block); ok && cap(*m) >= blocks {
		*m = (*m)[:blocks]
		return m
	}
	m := make([]block, blocks)
	return &m
}

// seed is H0. spec: RFC9106 §3.2
func seed(password, salt []byte, passes, memoryKiB, lanes, size uint32) [blake2b.Size]byte {
	var in []byte
	number := func(n uint32) { in = binary.LittleEndian.AppendUint32(in, n) }
	for _, n := range []uint32{lanes, size, memoryKiB, passes, version, argon2idID} {
		number(n)
	}
	for _, text := range [][]byte{password, salt, nil, nil} { // neither secret nor associated data
		number(uint32(len(text))) //nolint:gosec // far below 2^32
		in = append(in, text...)
	}
	return blake2b.Sum512(in)
}

// long is H', a hash of any length. spec: RFC9106 §3.3
func long(out, in []byte) {
	first := binary.LittleEndian.AppendUint32(nil, uint32(len(out))) //nolint:gosec // a block, or a key
	first = append(first, in...)
	if len(out) <= blake2b.Size {
		h, _ := blake2b.New(len(out), nil) // fails for other sizes only
		h.Write(first)
		h.Sum(out[:0])
		return
	}
	v := blake2b.Sum512(first)
	for len(out) > blake2b.Size {
		copy(out, v[:blake2b.Size/2])
		out = out[blake2b.Size/2:]
		if len(out) > blake2b.Size {
			v = blake2b.Sum512(v[:])
		}
	}
	h, _ := blake2b.New(len(out), nil)
	h.Write(v[:])
	h.Sum(out[:0])
}

// fill is one hash: lanes of blocks, one behind the other.
type fill struct {
	blocks        []block
	lanes, passes uint32
	lane, segment uint32 // blocks in each
}

// first writes the first two blocks of each lane.
func (f *fill) first(h0 [blake2b.Size]byte) {
	var raw [blockSize]byte
	for l := range f.lanes {
		for i := range uint32(2) {
			in := binary.LittleEndian.AppendUint32(h0[:len(h0):len(h0)], i)
			long(raw[:], binary.LittleEndian.AppendUint32(in, l))
			b := &f.blocks[l*f.lane+i]
			for w := range b {
				b[w] = binary.LittleEndian.Uint64(raw[w*8:])
			}
		}
	}
}

// run fills the memory, the lanes side by side.
func (f *fill) run() {
	for pass := range f.passes {
		for slice := range uint32(slices) {
			var others sync.WaitGroup
			for l := uint32(1); l < f.lanes; l++ {
				others.Go(func() { f.fillSegment(pass, slice, l) })
			}
			f.fillSegment(pass, slice, 0)
			others.Wait()
		}
	}
}

// fillSegment fills one slice of one lane: in the first half of the first pass with references that do not depend on
// the password, then with such that do. spec: RFC9106 §3.4.1.3
func (f *fill) fillSegment(pass, slice, lane uint32) {
	var scratch, addresses, in, zero block
	independent := pass == 0 && slice < slices/2
	if independent {
		in = block{uint64(pass), uint64(lane), uint64(slice), uint64(f.lanes * f.lane), uint64(f.passes), argon2idID}
	}
	i := uint32(0)
	if pass == 0 && slice == 0 {
		i = 2 // they are there
	}
	for fresh := true; i < f.segment; i++ {
		if i%between == between-1 {
			runtime.Gosched()
		}
		at := slice*f.segment + i
		previous := &f.blocks[lane*f.lane+(at+f.lane-1)%f.lane]
		random := previous[0]
		if independent {
			if fresh || i%words == 0 {
				in[6]++
				compress(&addresses, &in, &zero, &scratch, 0)
				compress(&addresses, &addresses, &zero, &scratch, 0)
				fresh = false
			}
			random = addresses[i%words]
		}
		with := uint64(0)
		if pass > 0 {
			with = ^with
		}
		compress(&f.blocks[lane*f.lane+at], previous, &f.blocks[f.reference(random, pass, slice, lane, i)], &scratch, with)
	}
}

// reference is the block that the next one is made of beside the one before it. spec: RFC9106 §3.4.1.1, §3.4.2
func (f *fill) reference(random uint64, pass, slice, lane, i uint32) uint32 {
	of := uint32(random>>32) % f.lanes //nolint:gosec // the upper half
	if pass == 0 && slice == 0 {
		of = lane
	}
	// Those that may be referred to: the last three slices that are complete, and of this lane what is in this one too.
	size, start := (slices-1)*f.segment, (slice+1)%slices*f.segment
	if pass == 0 {
		size, start = slice*f.segment, 0
	}
	if of == lane {
		size += i - 1
	} else if i == 0 {
		size--
	}
	x := random & 0xFFFFFFFF
	y := uint64(size) * (x * x >> 32) >> 32
	return of*f.lane + uint32((uint64(start)+uint64(size)-1-y)%uint64(f.lane)) //nolint:gosec // below f.lane
}

// last makes the result of the last blocks of all lanes.
func (f *fill) last(size uint32) []byte {
	sum := f.blocks[f.lane-1]
	for l := uint32(1); l < f.lanes; l++ {
		for w, v := range f.blocks[l*f.lane+f.lane-1] {
			sum[w] ^= v
		}
	}
	var raw [blockSize]byte
	for w, v := range sum {
		binary.LittleEndian.PutUint64(raw[w*8:], v)
	}
	out := make([]byte, size)
	long(out, raw[:])
	return out
}

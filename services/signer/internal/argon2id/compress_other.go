//go:build !amd64

package argon2id

const fast = false

func compress(_, _, _, _ *block, _ uint64) { panic("argon2id: there is no compress here") }

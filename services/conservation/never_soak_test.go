//go:build soak

package conservation

const neverRounds = 500

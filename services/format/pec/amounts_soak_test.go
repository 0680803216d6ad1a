//go:build soak

package pec

const ordersOfThousand = 10_000

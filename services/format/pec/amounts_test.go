//go:build !soak

package pec

// ordersOfThousand is in how many orders the receipts of a message to a thousand recipients come, a tenth of those of
// smaller ones; with the build tag soak ten thousand.
const ordersOfThousand = 40

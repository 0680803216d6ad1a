//go:build !soak

package pec

const (
	// ordersOfThousand is in how many orders the receipts of a message to a thousand recipients come, a tenth of those of
	// smaller ones; with the build tag soak ten thousand.
	ordersOfThousand = 40
	// mutants is how many damaged messages other parsers read too; with the build tag soak a hundred thousand.
	mutants = 5_000
)

//go:build !soak

package pecgateway_test

const (
	// manyAtOnce is how many messages wait at a time; with the build tag soak a hundred.
	manyAtOnce = 20
	// manyOrders is in how many orders receipts come; with the build tag soak many more.
	manyOrders = 12
)

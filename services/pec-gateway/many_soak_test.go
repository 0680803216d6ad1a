//go:build soak

package pecgateway_test

const (
	manyAtOnce = 100
	manyOrders = 300
)

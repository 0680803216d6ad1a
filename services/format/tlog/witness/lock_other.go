//go:build !unix

package witness

import "errors"

// lock: without a lock that ends with its process two witnesses could sign two histories.
func lock(string) (func() error, error) {
	return nil, errors.New("a witness runs on Unix systems only: its folder cannot be locked here")
}

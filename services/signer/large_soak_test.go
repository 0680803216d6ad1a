//go:build soak && unix

package signer_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

// TestLargeFileInFlatMemory sends 200 MB through the stream, in DER and in chunked BER, and takes the
// content back: client and service together take less than 32 MB above what they rest at.
func TestLargeFileInFlatMemory(t *testing.T) {
	h := open(t)
	api := signv1.NewVerificationServiceClient(h.Tenant("signer", "acme", "documents.verify"))
	der := largeP7M(t)
	for name, file := range map[string][]byte{"DER": der, "BER": largeBER(der)} {
		t.Run(name, func(t *testing.T) {
			runtime.GC()
			stop, most := watchHeap()
			got := sendToVerify(t, api, file)
			stop()
			require.Equal(t, largeSize, got)
			require.Less(t, most(), float64(32<<20))
		})
	}
}

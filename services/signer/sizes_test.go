package signer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// TestSizesThatNobodyHas: whoever names documents of the store says how large they are. Sizes that together are beyond int64 are refused
// like all that are too large: with a negative sum, the room that documents of all tenants share would be more than there is, and who
// gave his back meanwhile would give back too much.
func TestSizesThatNobodyHas(t *testing.T) {
	t.Parallel()
	s := &Service{cfg: Config{Documents: DocumentsConfig{MaxSize: 1000, MaxHeld: 1000}}, held: newHoldings(DocumentsConfig{MaxSize: 1000, MaxHeld: 1000})}
	named := func(n byte, size int64) *eventv1.Blob {
		ref := blob.Ref{Tenant: "acme", SHA256: [32]byte{n}, Size: size}
		return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: size}
	}
	tooLarge := fault.Invalid("DOCUMENTS_TOO_LARGE", "")
	for name, sizes := range map[string][]int64{
		"one":                       {math.MaxInt64},
		"two":                       {1000, math.MaxInt64},
		"three that come out small": {1000, math.MaxInt64, math.MaxInt64},
		"a byte more":               {999, 2},
	} {
		var list []*signv1.DocumentToSign
		request := &signv1.SignatureRequest{}
		for i, size := range sizes {
			list = append(list, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Blob{Blob: named(byte(i), size)}})
			request.Documents = append(request.Documents, &signv1.RequestDocument{Source: &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Blob{Blob: named(byte(i), size)}}})
		}
		_, _, err := s.sizeOf("acme", list)
		require.ErrorIs(t, err, tooLarge, name)
		_, err = s.keepDocuments(t.Context(), "acme", request, &requestRows{})
		require.ErrorIs(t, err, tooLarge, name)
	}
	total, _, err := s.sizeOf("acme", []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Blob{Blob: named(1, 999)}}, {Source: &signv1.DocumentToSign_Content{Content: []byte("x")}}})
	require.NoError(t, err)
	require.EqualValues(t, 1000, total)
}

package signer_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"encoding/pem"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/fault"
)

// TestHeldFormsAreBounded: forms that have to be held in memory are judged up to max_held, and told of beyond; a p7m of the
// same size is judged where it lies. What is over max_size is refused in all forms.
func TestHeldFormsAreBounded(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.pki.Root.Raw}), 0o600))
	const held, most = 16 << 10, 64 << 10
	h := openWith(t, nil, fmt.Sprintf("  verification: {roots_file: %q, allow_networks: [127.0.0.0/8], max_held: %d, max_size: %d}\n", roots, held, most))
	api := signv1.NewVerificationServiceClient(h.Tenant("signer", "acme", "documents.verify"))
	who, text := o.signer(t), func(n int) []byte {
		return append(append([]byte("<doc>"), bytes.Repeat([]byte("euro "), n/5)...), "</doc>"...)
	}
	inXML := func(n int) []byte {
		out, err := xades.Sign(t.Context(), text(n), xades.Signer{Chain: who.Chain, Key: who.Key}, xades.Options{SigningTime: cmstest.Now})
		require.NoError(t, err)
		return out
	}
	p7m := func(n int) []byte {
		out, err := cades.Sign(t.Context(), text(n), who, cades.Options{SigningTime: cmstest.Now})
		require.NoError(t, err)
		return out
	}
	tsd := func(n int) []byte { // RFC 5544, with the content alone: it is not looked into
		seq := func(class, tag int, parts ...[]byte) []byte {
			der, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: bytes.Join(parts, nil)})
			require.NoError(t, err)
			return der
		}
		plain := func(v any) []byte {
			der, err := asn1.Marshal(v)
			require.NoError(t, err)
			return der
		}
		body := seq(asn1.ClassUniversal, asn1.TagSequence, plain(1), plain(text(n)), seq(asn1.ClassContextSpecific, 0))
		return seq(asn1.ClassUniversal, asn1.TagSequence, plain(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 31}), seq(asn1.ClassContextSpecific, 0, body))
	}
	m7m := func(n int) []byte {
		return fmt.Appendf(nil, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\nContent-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--B--\r\n",
			base64.StdEncoding.EncodeToString(p7m(n)))
	}
	for name, c := range map[string]struct {
		file  []byte
		bound bool
	}{
		"XML within": {inXML(held / 4), false}, "XML beyond": {inXML(held), true}, ".tsd beyond": {tsd(held + 1000), true}, ".m7m beyond": {m7m(held), true},
		"Base64 beyond": {[]byte(base64.StdEncoding.EncodeToString(p7m(held))), true}, "p7m beyond": {p7m(held * 2), false},
	} {
		a, err := verify(t, api, &signv1.VerifyHead{Parent: "tenants/acme"}, c.file, nil)
		require.NoError(t, err, name)
		got := a.report.GetConclusion()
		if !c.bound {
			require.Equal(t, signv1.Verdict_VERDICT_TOTAL_PASSED, got.GetVerdict(), "%s: %s", name, got.GetReason())
			continue
		}
		require.Equal(t, signv1.Verdict_VERDICT_INDETERMINATE, got.GetVerdict(), "%s: %s", name, got.GetReason())
		require.Equal(t, "GENERIC", got.GetSubIndication(), name)
		require.Contains(t, got.GetReason(), fmt.Sprintf("is judged up to %d", held), name)
	}
	_, err := verify(t, api, &signv1.VerifyHead{Parent: "tenants/acme"}, p7m(most+1), nil)
	require.Error(t, err)
	require.Equal(t, "FILE_TOO_LARGE", fault.Of(err).Code)
}

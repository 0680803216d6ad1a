package signer

import (
	"crypto"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/internal/fault"
)

// liar shows one public key and signs with another, as a key does that was exchanged in Vault.
type liar struct {
	crypto.Signer
	shown crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.shown }

// TestReadBackRefusesWhatDoesNotVerify: the value of a key is verified once, when the file is read back; what the
// certificate does not verify is thrown away in every form.
func TestReadBackRefusesWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	pki := cmstest.New(t)
	for kind, keys := range map[string][2]crypto.Signer{"RSA": {cmstest.RSA(t), cmstest.NewECDSA(t)}, "ECDSA": {cmstest.NewECDSA(t), cmstest.NewECDSA(t)}} {
		pair := pki.Issue(t, "Maria Rossi", keys[0])
		honest := &readyCredential{signer: cades.Signer{Chain: pair.Chain, Key: pair.Key}}
		lying := &readyCredential{signer: cades.Signer{Chain: pair.Chain, Key: liar{keys[1], pair.Cert.PublicKey}}}
		for _, content := range [][]byte{[]byte("contract"), make([]byte, secondReaderLimit)} {
			sum := sha256.Sum256(content)
			p7m, err := cades.Sign(t.Context(), content, honest.signer, cades.Options{SigningTime: cmstest.Now})
			require.NoError(t, err)
			for _, c := range []struct {
				name    string
				form    signv1.SignatureForm
				content []byte
			}{
				{"attached", signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED, content},
				{"detached", signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED, content},
				{"beside", signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED, nil},
				{"parallel", signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL, p7m},
			} {
				_, err := new(Service).makeOne(t.Context(), sum[:], c.content, honest, cmstest.Now, output{form: c.form}, nil)
				require.NoError(t, err, "%s %s", kind, c.name)
				file, err := new(Service).makeOne(t.Context(), sum[:], c.content, lying, cmstest.Now, output{form: c.form}, nil)
				require.Equal(t, "SIGNATURE_NOT_VERIFIED", fault.Of(err).Code, "%s %s: %v", kind, c.name, err)
				require.Nil(t, file)
			}
			der, err := signHash(t.Context(), sum[:], lying, cmstest.Now)
			require.Equal(t, "SIGNATURE_NOT_VERIFIED", fault.Of(err).Code, "%s: %v", kind, err)
			require.Nil(t, der)
		}
	}
}

package signer

import (
	"crypto"
	"crypto/sha256"
	"io"
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

// fickle signs rightly as often as it is told, and with another key then, as where a key is exchanged in a batch.
type fickle struct {
	crypto.Signer
	other crypto.Signer
	right int
}

func (f *fickle) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if f.right--; f.right < 0 {
		return f.other.Sign(r, digest, o)
	}
	return f.Signer.Sign(r, digest, o)
}

// TestReadBackOfEach: that the second reader has read the first file of a credential does not spare the next ones
// their verification.
func TestReadBackOfEach(t *testing.T) {
	t.Parallel()
	pki := cmstest.New(t)
	key := cmstest.NewECDSA(t)
	pair := pki.Issue(t, "Maria Rossi", key)
	for _, form := range []signv1.SignatureForm{signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED, signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED} {
		by := &readyCredential{signer: cades.Signer{Chain: pair.Chain, Key: &fickle{key, cmstest.NewECDSA(t), 3}}}
		for i := range 5 {
			content := []byte{byte(i)}
			sum := sha256.Sum256(content)
			file, err := new(Service).makeOne(t.Context(), sum[:], content, by, cmstest.Now, output{form: form}, nil)
			if i < 3 {
				require.NoError(t, err)
				require.True(t, by.attached.Load() != by.detached.Load(), "the second reader has read one of this form")
				continue
			}
			require.Equal(t, "SIGNATURE_NOT_VERIFIED", fault.Of(err).Code, "%v", err)
			require.Nil(t, file)
		}
	}
	sum, other := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	by := &readyCredential{signer: cades.Signer{Chain: pair.Chain, Key: key}}
	der, err := signHash(t.Context(), sum[:], by, cmstest.Now)
	require.NoError(t, err)
	require.NoError(t, verifyDetached(der, sum[:], by))
	require.Error(t, verifyDetached(der, other[:], by), "another document's")
	require.Error(t, verifyDetached(append(der, 0), sum[:], by), "and a byte more")
	require.Error(t, verifyOutput(der, nil, by), "without its content")
	require.Error(t, verifyDetached(der, sum[:], &readyCredential{signer: cades.Signer{Chain: pki.Issue(t, "Luca Bianchi", cmstest.NewECDSA(t)).Chain}}))
}

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

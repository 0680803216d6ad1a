package xades_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/xades"
)

// stamper is a time-stamp authority of the PKI.
func stamper(t testing.TB, pki *cmstest.PKI, at time.Time) xades.Stamp {
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping)
	serial := big.NewInt(1)
	a := &tsp.Authority{Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return at }, Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) }}
	return func(ctx context.Context, sum []byte) ([]byte, error) {
		der, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum, CertReq: true}).Marshal()
		if err != nil {
			return nil, err
		}
		answer, err := a.Respond(ctx, der)
		if err != nil {
			return nil, err
		}
		r, err := tsp.ParseResponse(answer)
		if err != nil {
			return nil, err
		}
		return r.Token, r.Err()
	}
}

var (
	encapsulated = regexp.MustCompile(`EncapsulatedTimeStamp[^>]*>([^<]+)<`)
	valueElement = regexp.MustCompile(`<ds:SignatureValue Id="[^"]*">[^<]*</ds:SignatureValue>`)
)

// openSSLAccepts takes the token and what it covers out of a document by other means than the library's,
// and has openssl verify the one over the other.
func openSSLAccepts(t *testing.T, pki *cmstest.PKI, doc []byte) {
	t.Helper()
	found := encapsulated.FindSubmatch(doc)
	require.NotNil(t, found)
	token, err := base64.StdEncoding.DecodeString(string(found[1]))
	require.NoError(t, err)
	value := strings.Replace(string(valueElement.Find(doc)), "<ds:SignatureValue ", `<ds:SignatureValue xmlns:ds="http://www.w3.org/2000/09/xmldsig#" `, 1)
	said, err := cmstest.Run(t, "openssl", "openssl", "ts", "-verify", "-token_in", "-in", cmstest.File(t, "token", token),
		"-data", cmstest.File(t, "value", []byte(value)), "-CAfile", cmstest.CertFile(t, pki.Root))
	require.NoError(t, err, said)
}

// TestStampedDocuments: made at once or added later, the signature is XAdES-T to us, the XML signature
// holds for xmlsec1 and the token over the canonical SignatureValue for openssl.
func TestStampedDocuments(t *testing.T) {
	pki := cmstest.New(t)
	stamp := stamper(t, pki, cmstest.Now.Add(time.Minute))
	for keyName, p := range pairs(t, pki) {
		for _, docName := range []string{"plain", "prolog", "attributes", "line ends", "bom", "latin-1", "default"} {
			t.Run(docName+"/"+keyName, func(t *testing.T) {
				doc, who := []byte(documents[docName]), xades.Signer{Chain: p.Chain, Key: p.Key}
				atOnce, err := xades.Sign(t.Context(), doc, who, xades.Options{SigningTime: cmstest.Now, Timestamp: stamp})
				require.NoError(t, err)
				untouched(t, string(doc), string(atOnce))
				bes, err := xades.Sign(t.Context(), doc, who, xades.Options{SigningTime: cmstest.Now})
				require.NoError(t, err)
				later, err := xades.AddTimestamp(t.Context(), bes, stamp)
				require.NoError(t, err)
				untouched(t, string(doc), string(later))
				for _, out := range [][]byte{atOnce, later} {
					r, err := xades.Verify(out, xades.VerifyOptions{Roots: pki.Pool(), TSARoots: pki.Pool(), At: cmstest.Now.Add(time.Hour)})
					require.NoError(t, err)
					require.NoError(t, r.Err())
					require.Equal(t, xades.LevelT, r.Signatures[0].Level)
					require.Len(t, r.Signatures[0].Stamps, 1)
					require.True(t, r.Signatures[0].Stamps[0].Time.Equal(cmstest.Now.Add(time.Minute)))
					openSSLAccepts(t, pki, out)
				}
				if keyName == "ecdsa" { // a run takes 50 ms
					said, err := byXMLSec(t, pki, later)
					require.NoError(t, err, said)
				}
				again, err := xades.AddTimestamp(t.Context(), later, stamp)
				require.NoError(t, err)
				require.Equal(t, later, again, "what has its stamp is left alone")
			})
		}
	}
}

// TestStampsThatProveNothing: the signature stays what it is, a BES.
func TestStampsThatProveNothing(t *testing.T) {
	pki, other := cmstest.New(t), cmstest.New(t)
	p := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	who := xades.Signer{Chain: p.Chain, Key: p.Key}
	doc := []byte(documents["unused"])
	good := stamper(t, pki, cmstest.Now)
	make := func(stamp xades.Stamp) []byte {
		out, err := xades.Sign(t.Context(), doc, who, xades.Options{SigningTime: cmstest.Now, Timestamp: stamp})
		require.NoError(t, err)
		return out
	}
	for name, c := range map[string]struct {
		file []byte
		why  string
	}{
		"over another value":  {make(func(ctx context.Context, _ []byte) ([]byte, error) { return good(ctx, bytes.Repeat([]byte{1}, 32)) }), "other bytes"},
		"another's authority": {make(stamper(t, other, cmstest.Now)), "trust"},
		"in the future":       {make(stamper(t, pki, cmstest.Now.Add(48*time.Hour))), "after the time of judgement"},
		"no token":            {make(func(context.Context, []byte) ([]byte, error) { return []byte{0x30, 0x03, 2, 1, 1}, nil }), "tsp"},
		"canonical form named wrongly": {bytes.Replace(make(good), []byte(`<xades:SignatureTimeStamp><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>`),
			[]byte(`<xades:SignatureTimeStamp><ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>`), 1), "other bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := xades.Verify(c.file, xades.VerifyOptions{Roots: pki.Pool(), TSARoots: pki.Pool(), At: cmstest.Now.Add(time.Hour)})
			require.NoError(t, err)
			require.ErrorContains(t, r.Err(), c.why)
			require.Equal(t, xades.LevelBES, r.Signatures[0].Level)
			require.Equal(t, xades.Passed, r.Signatures[0].Signature.Verdict)
		})
	}
	for name, change := range map[string]string{"include": `<xades:Include URI="#x"/>`, "XML token": `<xades:XMLTimeStamp/>`} {
		file := bytes.Replace(make(good), []byte(`<xades:EncapsulatedTimeStamp`), []byte(change+`<xades:EncapsulatedTimeStamp`), 1)
		r, err := xades.Verify(file, xades.VerifyOptions{})
		require.NoError(t, err)
		require.Equal(t, xades.NotJudged, r.Signatures[0].Stamps[0].Check.Verdict, name)
		require.Equal(t, xades.LevelBES, r.Signatures[0].Level, name)
	}
}

func TestStampingThatFails(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	who := xades.Signer{Chain: p.Chain, Key: p.Key}
	away := errors.New("the authority is away")
	stamp := func(context.Context, []byte) ([]byte, error) { return nil, away }
	bes, err := xades.Sign(t.Context(), []byte(documents["plain"]), who, xades.Options{SigningTime: cmstest.Now, Timestamp: stamp})
	var unstamped *xades.TimestampError
	require.ErrorAs(t, err, &unstamped)
	require.ErrorIs(t, err, away)
	r, err := xades.Verify(bes, xades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Equal(t, xades.LevelBES, r.Signatures[0].Level)
	later, err := xades.AddTimestamp(t.Context(), bes, stamper(t, pki, cmstest.Now))
	require.NoError(t, err)
	openSSLAccepts(t, pki, later)

	_, err = xades.AddTimestamp(t.Context(), []byte("<a/>"), stamp)
	require.ErrorIs(t, err, xades.ErrUnsigned)
	_, err = xades.AddTimestamp(t.Context(), []byte("<a>"), stamp)
	var syntax *xades.SyntaxError
	require.ErrorAs(t, err, &syntax)
	_, err = xades.Sign(t.Context(), []byte(documents["plain"]), who, xades.Options{SigningTime: cmstest.Now, Timestamp: stamp, Shape: xades.ShapeReceipt})
	require.ErrorContains(t, err, "receipt")
	receipt, err := xades.Sign(t.Context(), []byte(documents["plain"]), who, xades.Options{SigningTime: cmstest.Now, Shape: xades.ShapeReceipt})
	require.NoError(t, err)
	later, err = xades.AddTimestamp(t.Context(), receipt, stamper(t, pki, cmstest.Now))
	require.NoError(t, err, "a receipt is XAdES, and may be stamped by whoever keeps it")
	r, err = xades.Verify(later, xades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Equal(t, xades.LevelSigningTime, r.Signatures[0].Level)
}

// TestTwoSignaturesAreStamped: each gets its own stamp, and neither breaks.
func TestTwoSignaturesAreStamped(t *testing.T) {
	pki := cmstest.New(t)
	doc := []byte(documents["prolog"])
	for _, p := range pairs(t, pki) {
		var err error
		doc, err = xades.Sign(t.Context(), doc, xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now})
		require.NoError(t, err)
	}
	out, err := xades.AddTimestamp(t.Context(), doc, stamper(t, pki, cmstest.Now))
	require.NoError(t, err)
	r, err := xades.Verify(out, xades.VerifyOptions{Roots: pki.Pool(), TSARoots: pki.Pool(), At: cmstest.Now})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Len(t, r.Signatures, 2)
	for i := range r.Signatures {
		require.Equal(t, xades.LevelT, r.Signatures[i].Level)
	}
}

package pskc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // see Read
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const seed20 = "12345678901234567890" // spec: RFC4226 Appendix D

func clearFile(keys string) []byte {
	return []byte(`<?xml version="1.0"?><KeyContainer Version="1.0" xmlns="` + namespace + `">` + keys + `</KeyContainer>`)
}

func clearKey(serial, kind, suite, seed, more string) string {
	return fmt.Sprintf(`<KeyPackage><DeviceInfo><Manufacturer>m</Manufacturer><SerialNo>%s</SerialNo></DeviceInfo>
<Key Id="k-%s" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:%s"><AlgorithmParameters>%s<ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters>
<Data><Secret><PlainValue>%s</PlainValue></Secret>%s</Data></Key></KeyPackage>`, serial, serial, kind, suite, base64.StdEncoding.EncodeToString([]byte(seed)), more)
}

func TestReadInClear(t *testing.T) {
	tokens, err := Read(clearFile(clearKey("A1", "totp", "<Suite>HMAC-SHA256</Suite>", strings.Repeat("s", 32), "<TimeInterval><PlainValue>60</PlainValue></TimeInterval>")+
		clearKey("A2", "hotp", "", seed20, "<Counter><PlainValue>41</PlainValue></Counter>")), Secrets{})
	require.NoError(t, err)
	require.Equal(t, []Token{
		{Serial: "A1", Kind: TOTP, Algorithm: "SHA256", Digits: 6, Period: 60, Seed: bytes.Repeat([]byte("s"), 32)},
		{Serial: "A2", Kind: HOTP, Algorithm: "SHA1", Digits: 6, Counter: 41, Seed: []byte(seed20)},
	}, tokens)
}

// encryptedKey makes what a maker delivers: AES-128-CBC with HMAC-SHA1 over the cipher text.
func encryptedFile(t testing.TB, key []byte, derivation string) []byte {
	t.Helper()
	seal := func(plain []byte) []byte {
		block, err := aes.NewCipher(key)
		require.NoError(t, err)
		pad := aes.BlockSize - len(plain)%aes.BlockSize
		plain = append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
		out := make([]byte, aes.BlockSize+len(plain))
		_, _ = rand.Read(out[:aes.BlockSize])
		cipher.NewCBCEncrypter(block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], plain)
		return out
	}
	macKey := bytes.Repeat([]byte{7}, 20)
	secret := seal([]byte(seed20))
	h := hmac.New(sha1.New, macKey)
	h.Write(secret)
	b64 := base64.StdEncoding.EncodeToString
	const method = `<xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/><xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData>`
	return fmt.Appendf(nil, `<KeyContainer Version="1.0" xmlns="%s" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"><EncryptionKey>%s</EncryptionKey>
<MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><MACKey>`+method+`</MACKey></MACMethod>
<KeyPackage><DeviceInfo><SerialNo>E1</SerialNo></DeviceInfo><Key Id="1" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp">
<AlgorithmParameters><ResponseFormat Length="8" Encoding="DECIMAL"/></AlgorithmParameters>
<Data><Secret><EncryptedValue>`+method+`</EncryptedValue><ValueMAC>%s</ValueMAC></Secret></Data></Key></KeyPackage></KeyContainer>`,
		namespace, derivation, b64(seal(macKey)), b64(secret), b64(h.Sum(nil)))
}

func TestReadEncrypted(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 16)
	file := encryptedFile(t, key, `<KeyName xmlns="http://www.w3.org/2000/09/xmldsig#">Pre-shared-key</KeyName>`)
	tokens, err := Read(file, Secrets{Key: key})
	require.NoError(t, err)
	require.Equal(t, []Token{{Serial: "E1", Kind: HOTP, Algorithm: "SHA1", Digits: 8, Seed: []byte(seed20)}}, tokens)

	derived, err := pbkdf2.Key(sha1.New, "qwerty", []byte("saltsalt"), 1000, 16)
	require.NoError(t, err)
	file = encryptedFile(t, derived, `<DerivedKey xmlns="http://www.w3.org/2009/xmlenc11#"><KeyDerivationMethod Algorithm="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2">
<PBKDF2-params><Salt><Specified>c2FsdHNhbHQ=</Specified></Salt><IterationCount>1000</IterationCount><KeyLength>16</KeyLength></PBKDF2-params></KeyDerivationMethod></DerivedKey>`)
	tokens, err = Read(file, Secrets{Passphrase: "qwerty"})
	require.NoError(t, err)
	require.Equal(t, []byte(seed20), tokens[0].Seed)
	_, err = Read(file, Secrets{})
	require.ErrorContains(t, err, "passphrase")
	_, err = Read(file, Secrets{Passphrase: "other"})
	require.Error(t, err)
}

func TestReadRefuses(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 16)
	sealed := encryptedFile(t, key, "")
	good := clearKey("A", "hotp", "", seed20, "")
	for says, c := range map[string]struct {
		file []byte
		open Secrets
	}{
		"not XML":          {[]byte("%PDF"), Secrets{}},
		"KeyContainer":     {[]byte("<KeyContainer/>"), Secrets{}},
		"DOCTYPE":          {[]byte(`<!DOCTYPE a [<!ENTITY b "c">]><KeyContainer/>`), Secrets{}},
		"0 keys":           {clearFile(""), Secrets{}},
		"twice":            {clearFile(good + good), Secrets{}},
		"neither hotp":     {clearFile(clearKey("A", "ocra", "", seed20, "")), Secrets{}},
		"suite":            {clearFile(clearKey("A", "totp", "<Suite>MD5</Suite>", seed20, "")), Secrets{}},
		"15 bytes":         {clearFile(clearKey("A", "hotp", "", seed20[:15], "")), Secrets{}},
		"counter":          {clearFile(clearKey("A", "hotp", "", seed20, "<Counter><PlainValue>x</PlainValue></Counter>")), Secrets{}},
		"interval":         {clearFile(clearKey("A", "totp", "", seed20, "<TimeInterval><PlainValue>0</PlainValue></TimeInterval>")), Secrets{}},
		"digits":           {[]byte(strings.ReplaceAll(string(clearFile(good)), `Length="6"`, `Length="7"`)), Secrets{}},
		"give the key":     {sealed, Secrets{}},
		"MAC is wrong":     {[]byte(strings.Replace(string(sealed), "<ValueMAC>", "<ValueMAC>AAAA", 1)), Secrets{Key: key}},
		"has no MAC":       {[]byte(strings.ReplaceAll(string(sealed), "ValueMAC", "Other")), Secrets{Key: key}},
		"no Key":           {clearFile("<KeyPackage/>"), Secrets{}},
		"more than":        {make([]byte, MaxFile+1), Secrets{}},
		"there is no seed": {clearFile(strings.ReplaceAll(good, "PlainValue", "Other")), Secrets{}},
	} {
		_, err := Read(c.file, c.open)
		require.ErrorContains(t, err, says)
	}
}

// The vectors are of the standard. spec: RFC5649 §6
func TestWrapKey(t *testing.T) {
	kek, _ := hex.DecodeString("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for plain, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		raw, _ := hex.DecodeString(plain)
		got, err := wrapKey(kek, raw)
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(got))
	}
}

func TestWrapSeed(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	wrapped, err := WrapSeed(&key.PublicKey, []byte(seed20))
	require.NoError(t, err)
	require.Len(t, wrapped, 256+40)
	require.NotContains(t, string(wrapped), seed20)
	kek, err := rsa.DecryptOAEP(sha256.New(), nil, key, wrapped[:256], nil)
	require.NoError(t, err)
	require.Len(t, kek, 32)
	_, err = WrapSeed(&key.PublicKey, []byte("short"))
	require.ErrorContains(t, err, "between 16")
}

func FuzzRead(f *testing.F) {
	f.Add(clearFile(clearKey("A1", "totp", "<Suite>HMAC-SHA256</Suite>", strings.Repeat("s", 32), "")))
	f.Add(clearFile(clearKey("A2", "hotp", "", seed20, "<Counter><PlainValue>41</PlainValue></Counter>")))
	f.Add(encryptedFile(f, bytes.Repeat([]byte{9}, 16), ""))
	f.Fuzz(func(t *testing.T, file []byte) {
		tokens, err := Read(file, Secrets{Key: bytes.Repeat([]byte{9}, 16)})
		if err != nil {
			return
		}
		for _, k := range tokens {
			if len(k.Seed) < MinSeed || k.Digits != 6 && k.Digits != 8 || k.Counter < 0 {
				t.Fatalf("%+v", k)
			}
		}
	})
}

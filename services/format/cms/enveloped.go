package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // read only: clients of old still send it
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the key identifier of a certificate without one
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// ErrNotRecipient: none of the recipients of an envelope is the certificate given.
var ErrNotRecipient = errors.New("cms: the envelope is not for this certificate")

// ErrDecrypt: the envelope is for this certificate and does not open. It says no more on purpose: what
// exactly failed is what an attacker of PKCS #1 v1.5 wants to know.
var ErrDecrypt = errors.New("cms: the envelope cannot be decrypted with this key")

// Object identifiers of encryption.
var (
	OIDEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}

	oidAES128CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidDESEDE3CBC = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	oidRSAOAEP    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}

	derOIDEnvelopedData = mustDER(OIDEnvelopedData)
	derOIDAES256CBC     = mustDER(oidAES256CBC)
	// spec: RFC3370 §4.2.1 (parameters are NULL)
	derRSAEncryption = tlv(tagSequence, mustDER(oidRSA), []byte{tagNull, 0})
)

// Encrypt makes an EnvelopedData for the recipients: AES-256-CBC under a fresh key, which each recipient
// gets under its RSA key (PKCS #1 v1.5, the one that every CMS program reads).
// Errors: no recipient, a recipient whose key is not RSA or is shorter than 2048 bits.
// spec: RFC5652 §6.1, §6.2.1, §6.3; RFC3370 §4.2.1; RFC3565 §2.2
func Encrypt(content []byte, recipients ...*x509.Certificate) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("cms: an envelope needs a recipient")
	}
	secret := make([]byte, 32+aes.BlockSize)
	_, _ = rand.Read(secret)
	key, iv := secret[:32], secret[32:]
	infos := make([][]byte, 0, len(recipients))
	for _, cert := range recipients {
		info, err := keyTransport(cert, key)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cms: %w", err)
	}
	pad := aes.BlockSize - len(content)%aes.BlockSize
	sealed := make([]byte, len(content)+pad)
	copy(sealed, content)
	for i := len(content); i < len(sealed); i++ {
		sealed[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)
	inner := tlv(tagSequence, derOIDData,
		tlv(tagSequence, derOIDAES256CBC, tlv(tagOctets, iv)),
		tlv(tagPrimitive0, sealed))
	// spec: RFC5652 §6.1 (version 0: no originator, every recipient version 0, no attributes)
	body := tlv(tagSequence, []byte{tagInteger, 1, 0}, setOf(tagSet, infos...), inner)
	return tlv(tagSequence, derOIDEnvelopedData, tlv(tagContext0, body)), nil
}

// keyTransport encodes a KeyTransRecipientInfo by issuer and serial number.
func keyTransport(cert *x509.Certificate, key []byte) ([]byte, error) {
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("cms: recipient %q has a key of type %T: encryption needs RSA", cert.Subject.CommonName, cert.PublicKey)
	}
	if pub.N.BitLen() < 2048 {
		return nil, fmt.Errorf("cms: recipient %q has an RSA key of %d bits: 2048 at least", cert.Subject.CommonName, pub.N.BitLen())
	}
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, key) //nolint:staticcheck // what the other side reads
	if err != nil {
		return nil, fmt.Errorf("cms: recipient %q: %w", cert.Subject.CommonName, err)
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("cms: serial number: %w", err)
	}
	return tlv(tagSequence, []byte{tagInteger, 1, 0}, tlv(tagSequence, cert.RawIssuer, serial),
		derRSAEncryption, tlv(tagOctets, sealed)), nil
}

// Enveloped is an EnvelopedData that was read and not opened.
type Enveloped struct {
	Armour      Armour
	BER         bool                  // the file was not DER
	Trailing    int                   // bytes after the end of the structure
	ContentType asn1.ObjectIdentifier // of what is inside, as the envelope says
	Cipher      asn1.ObjectIdentifier
	Recipients  []Recipient

	params  asn1.RawValue
	content []byte
}

// Recipient names a certificate, by issuer and serial number or by key identifier, and keeps its copy of the key.
type Recipient struct {
	Issuer       []byte // DER of the issuer's name
	Serial       *big.Int
	SubjectKeyID []byte
	Algorithm    asn1.ObjectIdentifier // of the transport of the key

	params asn1.RawValue
	key    []byte
}

// ParseEnveloped reads an EnvelopedData in DER, BER, Base64 or PEM under the default limits. Recipients
// that are no key transport (agreement, passwords) are passed over.
// Errors: *SyntaxError with the offset.
func ParseEnveloped(raw []byte) (*Enveloped, error) { return ParseEnvelopedLimited(raw, Limits{}) }

// ParseEnvelopedLimited is ParseEnveloped under other limits.
func ParseEnvelopedLimited(raw []byte, lim Limits) (*Enveloped, error) {
	if max := lim.orDefaults().Size; len(raw) > max*4/3+1024 {
		return nil, &SyntaxError{0, fmt.Sprintf("file has %d bytes, the limit is %d", len(raw), max)}
	}
	bin, armour, err := unarmour(raw)
	if err != nil {
		return nil, err
	}
	t, err := scan(bin, lim)
	if err != nil {
		return nil, err
	}
	e := &Enveloped{Armour: armour, BER: t.ber, Trailing: len(bin) - t.nodes[0].after}
	if err := e.read(t); err != nil {
		return nil, err
	}
	return e, nil
}

// read walks ContentInfo and EnvelopedData. spec: RFC5652 §3, §6.1
func (e *Enveloped) read(t *tree) error {
	outer := t.children(0)
	if t.nodes[0].id != tagSequence || len(outer) < 2 {
		return t.bad(0, "not a ContentInfo (a SEQUENCE of two is expected)")
	}
	ctype, err := t.oid(outer[0])
	if err != nil {
		return err
	}
	if !ctype.Equal(OIDEnvelopedData) {
		return t.bad(outer[0], "content type %v is not EnvelopedData", ctype)
	}
	wrapped := t.children(outer[1])
	if t.nodes[outer[1]].id != tagContext0 || len(wrapped) != 1 || t.nodes[wrapped[0]].id != tagSequence {
		return t.bad(outer[1], "ContentInfo holds no EnvelopedData")
	}
	parts := t.children(wrapped[0])
	if len(parts) < 3 {
		return t.bad(wrapped[0], "EnvelopedData has %d members, 3 at least are expected", len(parts))
	}
	if _, err := t.small(parts[0]); err != nil {
		return err
	}
	rest := parts[1:]
	if t.nodes[rest[0]].id == tagContext0 { // originatorInfo
		rest = rest[1:]
	}
	if len(rest) < 2 || t.nodes[rest[0]].id != tagSet {
		return t.bad(wrapped[0], "recipientInfos is not a SET followed by the content")
	}
	for _, c := range t.children(rest[0]) {
		if t.nodes[c].id != tagSequence {
			continue // another kind of recipient
		}
		r, err := readRecipient(t, c)
		if err != nil {
			return err
		}
		e.Recipients = append(e.Recipients, r)
	}
	return e.readEncrypted(t, rest[1])
}

// readRecipient reads a KeyTransRecipientInfo. spec: RFC5652 §6.2.1
func readRecipient(t *tree, i int) (r Recipient, err error) {
	kids := t.children(i)
	if len(kids) != 4 || t.nodes[kids[3]].id&^bitConstructed != tagOctets {
		return r, t.bad(i, "key transport of a recipient is malformed")
	}
	switch name := kids[1]; t.nodes[name].id {
	case tagSequence:
		parts := t.children(name)
		if len(parts) != 2 || t.nodes[parts[1]].id != tagInteger {
			return r, t.bad(name, "issuer and serial number of a recipient are malformed")
		}
		if r.Issuer, err = t.der(parts[0]); err != nil {
			return r, err
		}
		r.Serial = signedInteger(t.body(parts[1]))
	case tagPrimitive0:
		r.SubjectKeyID = t.body(name)
	default:
		return r, t.bad(name, "a recipient is named by tag %#02x", t.nodes[name].id)
	}
	if r.Algorithm, r.params, err = t.algorithm(kids[2]); err != nil {
		return r, err
	}
	r.key, err = t.octets(kids[3])
	return r, err
}

// readEncrypted reads EncryptedContentInfo. spec: RFC5652 §6.1
func (e *Enveloped) readEncrypted(t *tree, i int) (err error) {
	kids := t.children(i)
	if t.nodes[i].id != tagSequence || len(kids) != 3 || t.nodes[kids[2]].id&^bitConstructed != tagPrimitive0 {
		return t.bad(i, "EncryptedContentInfo is malformed or has no content")
	}
	if e.ContentType, err = t.oid(kids[0]); err != nil {
		return err
	}
	if e.Cipher, e.params, err = t.algorithm(kids[1]); err != nil {
		return err
	}
	e.content, err = t.octets(kids[2])
	return err
}

// Open decrypts the content with the key of cert, which may live elsewhere: any crypto.Decrypter.
// Errors: ErrNotRecipient, ErrDecrypt, a cipher that this package does not read.
// spec: RFC5652 §6.3, §6.4
func (e *Enveloped) Open(cert *x509.Certificate, key crypto.Decrypter) ([]byte, error) {
	size, block, err := e.cipher()
	if err != nil {
		return nil, err
	}
	var iv []byte
	if rest, err := asn1.Unmarshal(e.params.FullBytes, &iv); err != nil || len(rest) > 0 {
		return nil, &SyntaxError{0, "the cipher has no initialisation vector"}
	}
	found := false
	for _, r := range e.Recipients {
		if !r.names(cert) {
			continue
		}
		found = true
		secret, err := r.unwrap(key, size)
		if err != nil {
			continue
		}
		b, err := block(secret)
		if err != nil || len(iv) != b.BlockSize() {
			continue
		}
		if plain, ok := unpad(b, iv, e.content); ok {
			return plain, nil
		}
	}
	if !found {
		return nil, ErrNotRecipient
	}
	return nil, ErrDecrypt
}

func (e *Enveloped) cipher() (size int, block func([]byte) (cipher.Block, error), err error) {
	switch {
	case e.Cipher.Equal(oidAES256CBC):
		return 32, aes.NewCipher, nil
	case e.Cipher.Equal(oidAES192CBC):
		return 24, aes.NewCipher, nil
	case e.Cipher.Equal(oidAES128CBC):
		return 16, aes.NewCipher, nil
	case e.Cipher.Equal(oidDESEDE3CBC):
		return 24, des.NewTripleDESCipher, nil //nolint:gosec // reading only
	}
	return 0, nil, fmt.Errorf("cms: cipher %v is not read: AES-CBC and, of old files, DES-EDE3-CBC are", e.Cipher)
}

// names says whether the recipient is cert.
func (r *Recipient) names(cert *x509.Certificate) bool {
	if r.SubjectKeyID != nil {
		id := cert.SubjectKeyId
		if len(id) == 0 {
			if pub, ok := cert.PublicKey.(*rsa.PublicKey); ok {
				sum := sha1.Sum(x509.MarshalPKCS1PublicKey(pub)) //nolint:gosec // spec: RFC5280 §4.2.1.2 (1)
				id = sum[:]
			}
		}
		return bytes.Equal(id, r.SubjectKeyID)
	}
	return r.Serial != nil && r.Serial.Cmp(cert.SerialNumber) == 0 && bytes.Equal(r.Issuer, cert.RawIssuer)
}

// unwrap gives the content key of size bytes. Under PKCS #1 v1.5 a wrong padding gives a random key, so
// that it fails later, as any wrong key does. spec: RFC3218 §2.3.2
func (r *Recipient) unwrap(key crypto.Decrypter, size int) ([]byte, error) {
	switch {
	case r.Algorithm.Equal(oidRSA):
		return key.Decrypt(rand.Reader, r.key, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size}) //nolint:staticcheck // what the other side writes
	case r.Algorithm.Equal(oidRSAOAEP):
		opts, err := oaep(r.params)
		if err != nil {
			return nil, err
		}
		secret, err := key.Decrypt(rand.Reader, r.key, opts)
		if err == nil && len(secret) != size {
			err = ErrDecrypt
		}
		return secret, err
	}
	return nil, fmt.Errorf("cms: key transport %v is not read", r.Algorithm)
}

// oaep reads RSAES-OAEP-params: one hash for both, no label. spec: RFC4055 §4.1
func oaep(params asn1.RawValue) (*rsa.OAEPOptions, error) {
	o := &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	if len(params.FullBytes) == 0 {
		return o, nil
	}
	var p struct {
		Hash struct {
			Algorithm  asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		} `asn1:"explicit,tag:0,optional"`
		MGF struct {
			Algorithm asn1.ObjectIdentifier
			Hash      struct {
				Algorithm  asn1.ObjectIdentifier
				Parameters asn1.RawValue `asn1:"optional"`
			}
		} `asn1:"explicit,tag:1,optional"`
	}
	rest, err := asn1.Unmarshal(params.FullBytes, &p)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("cms: parameters of RSAES-OAEP are malformed, or have a label")
	}
	if p.Hash.Algorithm != nil {
		o.Hash = hashByOID(p.Hash.Algorithm)
	}
	if p.MGF.Algorithm != nil {
		o.MGFHash = hashByOID(p.MGF.Hash.Algorithm)
	}
	if o.Hash == 0 || o.MGFHash == 0 {
		return nil, errors.New("cms: RSAES-OAEP with a hash that is not read")
	}
	return o, nil
}

// unpad decrypts into a new slice and takes the padding away. spec: RFC5652 §6.3
func unpad(b cipher.Block, iv, sealed []byte) ([]byte, bool) {
	n := b.BlockSize()
	if len(sealed) == 0 || len(sealed)%n != 0 {
		return nil, false
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, sealed)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > n {
		return nil, false
	}
	for _, c := range plain[len(plain)-pad:] {
		if int(c) != pad {
			return nil, false
		}
	}
	return plain[:len(plain)-pad], true
}

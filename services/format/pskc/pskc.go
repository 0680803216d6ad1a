// Package pskc reads the seeds of hardware tokens as their makers deliver them (PSKC, RFC 6030), and wraps a
// seed for its way into a key store.
//
// It owns the reading: keys in clear, under a pre-shared AES key, or under a passphrase (PBKDF2), with the
// MAC that RFC 6030 asks for. It refuses files whose MAC is missing or wrong, algorithms that it does not know,
// and seeds that are too short. It keeps nothing: who reads a file has its seeds in memory and should wrap
// them at once.
package pskc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // spec: RFC6030 §6.2: HMAC-SHA1 is the MAC that makers use
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Limits of what is read.
const (
	MaxFile = 8 << 20 // bytes
	maxKeys = 20_000
	// MinSeed is the least that a seed has, in bytes. spec: RFC4226 §4 R6
	MinSeed = 16
	maxSeed = 64
	// maxIterations of a passphrase: a file must not keep us busy for minutes.
	maxIterations = 10_000_000
	namespace     = "urn:ietf:params:xml:ns:keyprov:pskc"
)

// Kind is what moves a token on.
type Kind string

// Kinds of tokens.
const (
	TOTP Kind = "TOTP" // time. spec: RFC6238
	HOTP Kind = "HOTP" // event. spec: RFC4226
)

// Token is one hardware token with its seed.
type Token struct {
	Serial    string
	Kind      Kind
	Algorithm string // SHA1, SHA256, SHA512
	Digits    int    // 6 or 8
	Period    int    // seconds; 0 of HOTP
	Counter   int64  // of the next code; 0 of TOTP
	Seed      []byte
}

// Secrets open an encrypted file; both empty for one in clear.
type Secrets struct {
	Key        []byte // pre-shared, AES-128, 192 or 256
	Passphrase string
}

type container struct {
	XMLName    xml.Name `xml:"KeyContainer"`
	Encryption struct {
		KeyName []string `xml:"KeyName"`
		Derived *struct {
			Method struct {
				Algorithm string `xml:"Algorithm,attr"`
				Params    struct {
					Salt       string `xml:"Salt>Specified"`
					Iterations int    `xml:"IterationCount"`
					KeyLength  int    `xml:"KeyLength"`
					PRF        struct {
						Algorithm string `xml:"Algorithm,attr"`
					} `xml:"PRF"`
				} `xml:"PBKDF2-params"`
			} `xml:"KeyDerivationMethod"`
		} `xml:"DerivedKey"`
	} `xml:"EncryptionKey"`
	MAC *struct {
		Algorithm string   `xml:"Algorithm,attr"`
		Key       *encoded `xml:"MACKey"`
	} `xml:"MACMethod"`
	Packages []struct {
		Device struct {
			Serial string `xml:"SerialNo"`
		} `xml:"DeviceInfo"`
		Key *struct {
			ID         string `xml:"Id,attr"`
			Algorithm  string `xml:"Algorithm,attr"`
			Parameters struct {
				Suite    string `xml:"Suite"`
				Response struct {
					Length   string `xml:"Length,attr"`
					Encoding string `xml:"Encoding,attr"`
				} `xml:"ResponseFormat"`
			} `xml:"AlgorithmParameters"`
			Data struct {
				Secret   value `xml:"Secret"`
				Counter  value `xml:"Counter"`
				Interval value `xml:"TimeInterval"`
			} `xml:"Data"`
		} `xml:"Key"`
	} `xml:"KeyPackage"`
}

type value struct {
	Plain     *string  `xml:"PlainValue"`
	Encrypted *encoded `xml:"EncryptedValue"`
	MAC       string   `xml:"ValueMAC"`
}

type encoded struct {
	Method struct {
		Algorithm string `xml:"Algorithm,attr"`
	} `xml:"EncryptionMethod"`
	Value string `xml:"CipherData>CipherValue"`
}

// Read reads a file. Errors say which token of the file is wrong and how.
func Read(file []byte, open Secrets) ([]Token, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("pskc: the file has more than %d bytes", MaxFile)
	}
	if strings.Contains(string(file), "<!DOCTYPE") || strings.Contains(string(file), "<!ENTITY") {
		return nil, errors.New("pskc: the file has a DOCTYPE, which is not read")
	}
	var c container
	if err := xml.Unmarshal(file, &c); err != nil {
		return nil, fmt.Errorf("pskc: not XML: %w", err)
	}
	if c.XMLName.Space != namespace {
		return nil, fmt.Errorf("pskc: the root is %s in %q, not KeyContainer of RFC 6030", c.XMLName.Local, c.XMLName.Space)
	}
	if len(c.Packages) == 0 || len(c.Packages) > maxKeys {
		return nil, fmt.Errorf("pskc: %d keys: between 1 and %d are read at once", len(c.Packages), maxKeys)
	}
	key, err := c.key(open)
	if err != nil {
		return nil, err
	}
	mac, err := c.macKey(key)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []Token
	for i := range c.Packages {
		t, err := c.token(i, key, mac)
		if err != nil {
			return nil, fmt.Errorf("pskc: key %d (serial %q): %w", i+1, t.Serial, err)
		}
		if seen[t.Serial] {
			return nil, fmt.Errorf("pskc: key %d: serial %q is there twice", i+1, t.Serial)
		}
		seen[t.Serial] = true
		out = append(out, t)
	}
	return out, nil
}

// key is what opens the encrypted values, nil when the file names none. spec: RFC6030 §6.1, §6.2
func (c *container) key(open Secrets) ([]byte, error) {
	d := c.Encryption.Derived
	if d == nil {
		return open.Key, nil
	}
	if !strings.HasSuffix(d.Method.Algorithm, "#pbkdf2") {
		return nil, fmt.Errorf("pskc: key derivation %q is not known", d.Method.Algorithm)
	}
	p := d.Method.Params
	salt, err := decode(p.Salt)
	if err != nil || len(salt) < 8 || p.Iterations < 1 || p.Iterations > maxIterations || (p.KeyLength != 16 && p.KeyLength != 24 && p.KeyLength != 32) {
		return nil, fmt.Errorf("pskc: key derivation: salt, %d iterations or key length %d are out of bounds", p.Iterations, p.KeyLength)
	}
	if open.Passphrase == "" {
		return nil, errors.New("pskc: the file is under a passphrase: give it")
	}
	sum := func() hash.Hash { return sha1.New() } //nolint:gosec // the default of PBKDF2. spec: RFC8018 §A.2
	switch {
	case p.PRF.Algorithm == "", strings.HasSuffix(p.PRF.Algorithm, "#hmac-sha1"):
	case strings.HasSuffix(p.PRF.Algorithm, "#hmac-sha256"):
		sum = sha256.New
	default:
		return nil, fmt.Errorf("pskc: key derivation with %q is not known", p.PRF.Algorithm)
	}
	return pbkdf2.Key(sum, open.Passphrase, salt, p.Iterations, p.KeyLength)
}

// macKey is what values are authenticated with; nil in a file in clear. spec: RFC6030 §6.1.1
func (c *container) macKey(key []byte) ([]byte, error) {
	if c.MAC == nil {
		return nil, nil
	}
	if !strings.HasSuffix(c.MAC.Algorithm, "#hmac-sha1") && !strings.HasSuffix(c.MAC.Algorithm, "#hmac-sha256") {
		return nil, fmt.Errorf("pskc: MAC %q is not known", c.MAC.Algorithm)
	}
	if len(key) == 0 {
		return nil, errors.New("pskc: the seeds are encrypted: give the key or the passphrase")
	}
	if c.MAC.Key == nil { // the same key for both
		return key, nil
	}
	return decrypt(c.MAC.Key, key)
}

func (c *container) token(i int, key, mac []byte) (Token, error) {
	p := c.Packages[i]
	t := Token{Serial: strings.TrimSpace(p.Device.Serial), Algorithm: "SHA1"}
	if p.Key == nil {
		return t, errors.New("there is no Key in the package")
	}
	if t.Serial == "" {
		t.Serial = p.Key.ID
	}
	switch p.Key.Algorithm {
	case "urn:ietf:params:xml:ns:keyprov:pskc:totp":
		t.Kind = TOTP
	case "urn:ietf:params:xml:ns:keyprov:pskc:hotp":
		t.Kind = HOTP
	default:
		return t, fmt.Errorf("algorithm %q is neither hotp nor totp", p.Key.Algorithm)
	}
	switch suite := strings.ToUpper(strings.ReplaceAll(p.Key.Parameters.Suite, "-", "")); suite {
	case "", "HMACSHA1", "SHA1":
	case "HMACSHA256", "SHA256":
		t.Algorithm = "SHA256"
	case "HMACSHA512", "SHA512":
		t.Algorithm = "SHA512"
	default:
		return t, fmt.Errorf("suite %q is not known", p.Key.Parameters.Suite)
	}
	if e := p.Key.Parameters.Response.Encoding; e != "" && e != "DECIMAL" {
		return t, fmt.Errorf("codes are %s, not DECIMAL", e)
	}
	var err error
	if t.Digits, err = number(p.Key.Parameters.Response.Length, 6); err != nil || t.Digits != 6 && t.Digits != 8 {
		return t, fmt.Errorf("codes have %q digits: 6 or 8 are known", p.Key.Parameters.Response.Length)
	}
	if t.Kind == TOTP {
		if t.Period, err = c.count(p.Key.Data.Interval, 30, key, mac); err != nil || t.Period < 1 || t.Period > 300 {
			return t, errors.New("the time interval is none between 1 and 300 seconds")
		}
	} else {
		n, err := c.count(p.Key.Data.Counter, 0, key, mac)
		if err != nil || n < 0 {
			return t, errors.New("the counter is no number")
		}
		t.Counter = int64(n)
	}
	t.Seed, err = c.secret(p.Key.Data.Secret, key, mac)
	if err != nil {
		return t, err
	}
	if len(t.Seed) < MinSeed || len(t.Seed) > maxSeed {
		return t, fmt.Errorf("the seed has %d bytes: between %d and %d are taken", len(t.Seed), MinSeed, maxSeed)
	}
	return t, nil
}

func number(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	return strconv.Atoi(strings.TrimSpace(text))
}

// count is a number that is in clear, or encrypted as 8 bytes.
func (c *container) count(v value, otherwise int, key, mac []byte) (int, error) {
	if v.Encrypted == nil {
		if v.Plain == nil {
			return otherwise, nil
		}
		return number(*v.Plain, otherwise)
	}
	raw, err := c.open(v, key, mac)
	if err != nil || len(raw) > 8 {
		return 0, errors.New("no number")
	}
	n := 0
	for _, b := range raw {
		n = n<<8 | int(b)
	}
	return n, nil
}

func (c *container) secret(v value, key, mac []byte) ([]byte, error) {
	switch {
	case v.Encrypted != nil:
		return c.open(v, key, mac)
	case v.Plain != nil:
		seed, err := decode(*v.Plain)
		if err != nil {
			return nil, errors.New("the seed is not base64")
		}
		return seed, nil
	}
	return nil, errors.New("there is no seed")
}

// open checks the MAC, which is over the cipher text, and decrypts. A value without a MAC is refused: CBC
// alone lets whoever holds the file change seeds. spec: RFC6030 §6.1.1
func (c *container) open(v value, key, mac []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, errors.New("the seed is encrypted: give the key or the passphrase")
	}
	if mac == nil || v.MAC == "" {
		return nil, errors.New("the encrypted seed has no MAC")
	}
	given, err := decode(v.MAC)
	if err != nil {
		return nil, errors.New("the MAC is not base64")
	}
	raw, err := decode(v.Encrypted.Value)
	if err != nil {
		return nil, errors.New("the encrypted seed is not base64")
	}
	sum := sha1.New
	if strings.HasSuffix(c.MAC.Algorithm, "#hmac-sha256") {
		sum = sha256.New
	}
	h := hmac.New(sum, mac)
	h.Write(raw)
	if !hmac.Equal(h.Sum(nil), given) {
		return nil, errors.New("the MAC is wrong: another key, or the file was changed")
	}
	return decrypt(v.Encrypted, key)
}

// decrypt opens AES-CBC with the initial vector in front. spec: XMLENC §5.2.2
func decrypt(e *encoded, key []byte) ([]byte, error) {
	if !strings.Contains(e.Method.Algorithm, "#aes") || !strings.HasSuffix(e.Method.Algorithm, "-cbc") {
		return nil, fmt.Errorf("encryption %q is not known", e.Method.Algorithm)
	}
	raw, err := decode(e.Value)
	if err != nil {
		return nil, errors.New("the encrypted value is not base64")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	if len(raw) < 2*aes.BlockSize || len(raw)%aes.BlockSize != 0 {
		return nil, errors.New("the encrypted value is cut short")
	}
	out := make([]byte, len(raw)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, raw[:aes.BlockSize]).CryptBlocks(out, raw[aes.BlockSize:])
	pad := int(out[len(out)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errors.New("the key does not open the value")
	}
	return out[:len(out)-pad], nil
}

func decode(text string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
}

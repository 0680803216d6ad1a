// Package sdiftp reads and writes what travels over the SDIFTP channel of the Sistema di Interscambio:
// the names of supports (supporti) and of the files about them, the ZIP inside a support with its count of
// documents (file di quadratura), the signed and encrypted envelope around it, outcomes (EO), refusals (ER)
// and the daily reports of supports (ST).
//
// It owns those formats and their bounds. It refuses the protocol itself (who connects, what is shown
// when), the meaning of the documents inside (format/sdi, format/fatturapa) and trust policy: whose
// certificates count is the caller's.
//
// spec: SDIFTP-4.3 §3 (names, composition, outcomes), §5 (directories), §6 (signature and encryption);
// FtpTypes-2.0
package sdiftp

import "errors"

// Directories of a node, as SdI's client sees them. Towards SdI it may get and delete, from SdI it may put
// and rename; the test environment has its own pair.
// spec: SDIFTP-4.3 §5.1
const (
	DirTowards     = "DatiVersoSdI"
	DirFrom        = "DatiDaSdI"
	DirTowardsTest = "DatiVersoSdITest"
	DirFromTest    = "DatiDaSdITest"
)

// Probe is the file that SdI's client writes into the directory towards SdI to see whether it can. It
// carries nothing. (Known from the field.)
const Probe = "semaforodaSogei.log"

// Bounds of a support.
// spec: SDIFTP-4.3 §2.3
const (
	MaxSupport   = 150_000_000 // bytes, signed and encrypted
	MaxDocuments = 20_000
	LightSupport = 15_000_000 // at most one support below this size is taken per access
)

// Sentinels that callers tell apart with errors.Is.
var (
	ErrName       = errors.New("sdiftp: invalid name")
	ErrXML        = errors.New("sdiftp: unreadable XML")
	ErrArchive    = errors.New("sdiftp: unreadable archive")
	ErrTooLarge   = errors.New("sdiftp: larger than the limit")
	ErrEncryption = errors.New("sdiftp: the support cannot be decrypted")
	ErrSignature  = errors.New("sdiftp: the signature of the support does not hold")
	ErrReport     = errors.New("sdiftp: unreadable report")
)

// clip shortens text from outside for an error.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

package pec

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"strings"
	"time"
)

// Profile is how a provider writes what the rules leave open. The zero value is the plain
// reading of RFC 6109 with today's algorithms.
type Profile struct {
	Name              string
	OriginalFirst     bool   // postacert.eml before daticert.xml
	QuotedDaticert    bool   // daticert.xml in quoted-printable, not base64
	AttachedDaticert  bool   // disposition attachment, not inline
	HTML              bool   // the text in HTML too
	SHA1              bool   // the signature over SHA-1, as every provider seen so far
	BER               bool   // the signature with indefinite lengths
	Micalg            string // as written in Content-Type, quotes included; sha-256 when empty
	XProtocol         bool   // application/x-pkcs7-signature
	TipoRicevutaField string // spelling on the outer header; "-" leaves it out
	ID                string // form of identifiers: "opec", "blocks", or plain
}

// Profiles that differ as the providers do of whom messages were seen. The providers are not to
// be held to them: they show what a reader has to live with.
var (
	ProfilePlain     = Profile{Name: "plain"}
	ProfileAruba     = Profile{Name: "aruba", HTML: true, SHA1: true, Micalg: `"sha1"`, XProtocol: true, TipoRicevutaField: "X-Tiporicevuta", ID: "opec"}
	ProfileNamirial  = Profile{Name: "namirial", HTML: true, SHA1: true, Micalg: `"sha1"`, XProtocol: true, ID: "opec"}
	ProfileSogei     = Profile{Name: "sogei", SHA1: true, Micalg: `"sha1"`, XProtocol: true, ID: "opec"}
	ProfileLegalmail = Profile{Name: "legalmail", OriginalFirst: true, QuotedDaticert: true, AttachedDaticert: true, SHA1: true, BER: true, Micalg: "sha-1", TipoRicevutaField: "-", ID: "blocks"}
)

// Profiles lists them.
func Profiles() []Profile {
	return []Profile{ProfilePlain, ProfileAruba, ProfileNamirial, ProfileSogei, ProfileLegalmail}
}

// Gestore issues the messages of a provider. It keeps no state.
type Gestore struct {
	Name        string // gestore-emittente
	Address     string // that it signs as: posta-certificata@...
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Key         crypto.Signer
	Profile     Profile
	Location    *time.Location // of the legal time in texts and daticert; UTC when nil
	Random      io.Reader      // boundaries and identifiers; crypto/rand when nil
}

func (g *Gestore) random() io.Reader {
	if g.Random != nil {
		return g.Random
	}
	return rand.Reader
}

func (g *Gestore) location() *time.Location {
	if g.Location != nil {
		return g.Location
	}
	return time.UTC
}

// NewIdentificativo makes an identifier of the provider, without brackets.
// spec: RFC6109 §2.2.1
func (g *Gestore) NewIdentificativo(at time.Time) (string, error) {
	id, err := token(g.random(), 16)
	if err != nil {
		return "", err
	}
	domain := Domain(g.Address)
	switch g.Profile.ID {
	case "opec":
		n := make([]int, 4)
		for i := range n {
			for _, c := range id[i*4 : i*4+4] {
				n[i] = (n[i]*16 + unhex(byte(c))) % 100000
			}
		}
		return fmt.Sprintf("opec%d.%s.%d.%d.1.%d@%s", 2100+n[0]%100, at.In(g.location()).Format("20060102150405"), n[1], n[2], n[3], domain), nil
	case "blocks":
		up := strings.ToUpper(id)
		return fmt.Sprintf("%s.%s.%s.%s.posta-certificata@%s", up[:8], up[8:16], up[16:24], up[24:32], domain), nil
	}
	return id + "@" + domain, nil
}

// Atto is one message that a provider issues. See Transito for how to make them.
type Atto struct {
	Tipo      Tipo
	Istante   time.Time // the one time of the transaction: header, text, daticert, signature. spec: RFC6109 §4.1
	Dati      Daticert  // what daticert will say; Tipo, time and issuer are set by Write
	Header    Header    // of the original: an envelope inherits from it
	Original  func(io.Writer) error
	Avviso24  bool   // a PreavvisoErrore that is the second one
	Dettaglio string // the error in words, for people
	To        string // of a message between providers: the other one's service mailbox
	MessageID string // own identifier; made by Write when empty (an envelope has its identificativo)
}

// virus says whether the act is about a virus.
func (a *Atto) virus() bool { return a.Dati.Errore == VirusTrovato }

// Write issues the message: header, signed multipart/mixed, signature. The original is streamed,
// nothing of it is kept. It gives the Message-ID, without brackets. What is written passes Read
// and Verify of this package and openssl cms -verify.
// spec: RFC6109 §2.1, §3, §4.3, §4.4, §5.1
func (g *Gestore) Write(ctx context.Context, w io.Writer, a Atto) (string, error) {
	if err := g.check(&a); err != nil {
		return "", err
	}
	a.Istante = a.Istante.Truncate(time.Second)
	a.Dati.Tipo, a.Dati.Gestore = string(a.Tipo), g.Name
	a.Dati.SetIstante(a.Istante, g.location())
	if a.MessageID == "" {
		var err error
		switch a.Tipo {
		case BustaTrasporto:
			a.MessageID = TrimID(a.Dati.Identificativo)
		case BustaAnomalia:
			a.MessageID = a.Header.MessageID("Message-ID")
		}
		if a.MessageID == "" {
			if a.MessageID, err = g.NewIdentificativo(a.Istante); err != nil {
				return "", err
			}
		}
	}
	if _, err := w.Write(g.header(&a)); err != nil {
		return "", err
	}
	return a.MessageID, g.signed(ctx, w, &a)
}

// check refuses what would make a message that is none.
func (g *Gestore) check(a *Atto) error {
	switch {
	case !a.Tipo.Certified():
		return fmt.Errorf("pec: %q is no type that a provider issues", a.Tipo)
	case g.Certificate == nil || g.Key == nil:
		return fmt.Errorf("pec: provider %q has no certificate or no key", g.Name)
	case !validAddr(g.Address):
		return fmt.Errorf("pec: provider %q signs as %q, which is no address", g.Name, g.Address)
	case a.Istante.IsZero():
		return fmt.Errorf("pec: %s without the time of the event", a.Tipo)
	case a.Tipo != BustaAnomalia && a.Dati.Identificativo == "":
		return fmt.Errorf("pec: %s without identificativo", a.Tipo)
	case (a.Tipo == BustaTrasporto || a.Tipo == BustaAnomalia) && a.Original == nil:
		return fmt.Errorf("pec: %s without the original", a.Tipo)
	case a.Tipo.BetweenProviders() && a.To == "":
		return fmt.Errorf("pec: %s goes to the other provider: give its address", a.Tipo)
	}
	return nil
}

// header writes the header of the type. spec: RFC6109 §3.1.2 to §3.3.3
func (g *Gestore) header(a *Atto) []byte {
	var b bytes.Buffer
	d := &a.Dati
	envelope := a.Tipo == BustaTrasporto || a.Tipo == BustaAnomalia
	if envelope {
		inherit(&b, a.Header, "Received", "Return-Path")
		v := "posta-certificata"
		if a.Tipo == BustaAnomalia {
			v = "errore"
		}
		writeField(&b, HeaderTrasporto, v)
	} else {
		writeField(&b, HeaderRicevuta, string(a.Tipo))
	}
	if a.virus() && a.Tipo != RilevazioneVirus {
		writeField(&b, HeaderSicurezza, "errore")
	}
	writeField(&b, "Date", a.Istante.In(g.location()).Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	writeText(&b, "Subject", prefix(a.Tipo, a.virus())+d.Oggetto)
	if a.Tipo == RilevazioneVirus {
		writeField(&b, HeaderMittente, d.Mittente)
	}
	if envelope {
		on := formatAddress(Address{Name: "Per conto di: " + d.Mittente, Addr: g.Address})
		writeField(&b, "From", on)
		writeField(&b, "Sender", on)
		inherit(&b, a.Header, "To", "Cc", "Reply-To")
		if _, has := a.Header.Lookup("Reply-To"); !has {
			writeField(&b, "Reply-To", orDefault(d.Risposte, d.Mittente))
		}
	} else {
		writeField(&b, "From", g.Address)
		writeField(&b, "To", orDefault(a.To, d.Mittente))
	}
	writeField(&b, "Message-ID", "<"+a.MessageID+">")
	if d.MsgID != "" && a.Tipo != BustaAnomalia {
		writeField(&b, HeaderRiferimento, "<"+TrimID(d.MsgID)+">")
	}
	if field := orDefault(g.Profile.TipoRicevutaField, HeaderTipoRicevuta); a.Tipo == BustaTrasporto && field != "-" {
		writeField(&b, field, string(orDefault(d.Ricevuta, Completa)))
	}
	b.WriteString("MIME-Version: 1.0\r\n")
	return b.Bytes()
}

// inherit copies fields of the original as they stand, folded anew.
func inherit(b *bytes.Buffer, h Header, names ...string) {
	for _, name := range names {
		for _, f := range h {
			if strings.EqualFold(f.Name, name) {
				writeField(b, f.Name, f.Value)
			}
		}
	}
}

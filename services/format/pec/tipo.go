package pec

import "strings"

// Tipo is the type of a message. spec: RFC6109 §2.1, §3; DM-2005-11-02 All. §6
type Tipo string

// The types of certified mail, then everything else that a mailbox gets.
const (
	BustaTrasporto       Tipo = "posta-certificata"         // transport envelope
	BustaAnomalia        Tipo = "anomalia"                  // anomaly envelope around what is not certified
	Accettazione         Tipo = "accettazione"              // acceptance
	NonAccettazione      Tipo = "non-accettazione"          // refusal: formal, or a virus (see Virus)
	PresaInCarico        Tipo = "presa-in-carico"           // between providers: taken in charge
	AvvenutaConsegna     Tipo = "avvenuta-consegna"         // delivery, to one recipient
	ErroreConsegna       Tipo = "errore-consegna"           // non-delivery, to one recipient, or a virus
	PreavvisoErrore      Tipo = "preavviso-errore-consegna" // 12 and 24 hours without delivery
	RilevazioneVirus     Tipo = "rilevazione-virus"         // between providers: virus found
	TipoIgnoto           Tipo = "ignoto"                    // claims to be certified mail of a type unknown to the rules
	TipoOrdinaria        Tipo = "ordinaria"                 // ordinary mail
	TipoNotificaRecapito Tipo = "dsn"                       // delivery status notification of ordinary mail (RFC 3464)
	TipoREM              Tipo = "rem"                       // European registered mail, see ReadREM
)

// Certified says whether the type is one of RFC 6109.
func (t Tipo) Certified() bool {
	switch t {
	case BustaTrasporto, BustaAnomalia, Accettazione, NonAccettazione, PresaInCarico, AvvenutaConsegna, ErroreConsegna, PreavvisoErrore, RilevazioneVirus:
		return true
	}
	return false
}

// Receipt says whether the type is about a message that somebody sent (receipts and notices).
func (t Tipo) Receipt() bool { return t.Certified() && t != BustaTrasporto && t != BustaAnomalia }

// PerRecipient says whether such a message is about one recipient. spec: RFC6109 §3.3
func (t Tipo) PerRecipient() bool {
	return t == AvvenutaConsegna || t == ErroreConsegna || t == PreavvisoErrore || t == RilevazioneVirus
}

// BetweenProviders says whether such a message never reaches users. spec: RFC6109 §2.1.1.1.1
func (t Tipo) BetweenProviders() bool { return t == PresaInCarico || t == RilevazioneVirus }

// TipoRicevuta is what a delivery receipt repeats of the original. spec: RFC6109 §3.3.2
type TipoRicevuta string

// The three kinds of delivery receipt; completa when nobody says.
const (
	Completa  TipoRicevuta = "completa"
	Breve     TipoRicevuta = "breve"
	Sintetica TipoRicevuta = "sintetica"
)

// Errore is the attribute errore of daticert.
type Errore string

// The values of the DTD.
const (
	Nessuno       Errore = "nessuno"
	NoDest        Errore = "no-dest"
	NoDominio     Errore = "no-dominio"
	VirusTrovato  Errore = "virus"
	AltroErrore   Errore = "altro"
	erroreDefault        = Nessuno
)

// Header fields of certified mail. spec: RFC6109 §2.1, app. A
const (
	HeaderTrasporto    = "X-Trasporto"
	HeaderRicevuta     = "X-Ricevuta"
	HeaderTipoRicevuta = "X-TipoRicevuta"
	HeaderRiferimento  = "X-Riferimento-Message-ID"
	HeaderSicurezza    = "X-VerificaSicurezza"
	HeaderMittente     = "X-Mittente"
)

// Claim is what the header of a message says it is. The header is signed by nobody.
type Claim struct {
	Tipo         Tipo
	Value        string       // of X-Ricevuta or X-Trasporto as it stands
	TipoRicevuta TipoRicevuta // "" when not said; on an envelope that means completa
	Virus        bool         // X-VerificaSicurezza: errore
	Riferimento  string       // identifier of the original as its sender gave it, without brackets
	MessageID    string       // own identifier, without brackets
	Subject      string       // decoded
	From         []Address
}

// Classify reads the claim of a message. Outer fields decide: what is nested is content.
func Classify(m *Message) (Claim, Findings) {
	h := m.Root.Header
	var fs Findings
	c := Claim{
		Tipo:         TipoOrdinaria,
		Virus:        strings.EqualFold(h.Get(HeaderSicurezza), "errore"),
		Riferimento:  h.MessageID(HeaderRiferimento),
		MessageID:    h.MessageID("Message-ID"),
		Subject:      h.Text("Subject"),
		From:         ParseAddresses(h.Get("From")),
		TipoRicevuta: TipoRicevuta(strings.ToLower(h.Get(HeaderTipoRicevuta))),
	}
	trasporto, hasT := h.Lookup(HeaderTrasporto)
	ricevuta, hasR := h.Lookup(HeaderRicevuta)
	switch {
	case hasT && hasR:
		fs.add(CodeBothHeaders, Ambiguous, 0, "%s and %s stand together", HeaderTrasporto, HeaderRicevuta)
		c.Tipo, c.Value = TipoIgnoto, ricevuta
	case hasT:
		c.Tipo, c.Value = tipoTrasporto(trasporto), trasporto
	case hasR:
		c.Tipo, c.Value = tipoRicevuta(ricevuta), ricevuta
	case h.Get("REM-MessageType") != "":
		c.Tipo, c.Value = TipoREM, h.Get("REM-MessageType")
	case m.Root.MediaType == "multipart/report" && strings.EqualFold(m.Root.Params["report-type"], "delivery-status"):
		c.Tipo = TipoNotificaRecapito
	}
	if c.Tipo == TipoIgnoto && !(hasT && hasR) {
		fs.add(CodeUnknownTipo, Doubt, 0, "%q is no type of certified mail", c.Value)
	}
	return c, fs
}

func tipoTrasporto(v string) Tipo {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "posta-certificata":
		return BustaTrasporto
	case "errore":
		return BustaAnomalia
	}
	return TipoIgnoto
}

func tipoRicevuta(v string) Tipo {
	switch t := Tipo(strings.ToLower(strings.TrimSpace(v))); t {
	case Accettazione, NonAccettazione, PresaInCarico, AvvenutaConsegna, ErroreConsegna, PreavvisoErrore, RilevazioneVirus:
		return t
	}
	return TipoIgnoto
}

// prefix is how the subject of a type begins. Both notices of missing delivery share theirs.
// spec: RFC6109 §3.1.2 to §3.3.3
func prefix(t Tipo, virus bool) string {
	switch t {
	case BustaTrasporto:
		return "POSTA CERTIFICATA: "
	case BustaAnomalia:
		return "ANOMALIA MESSAGGIO: "
	case Accettazione:
		return "ACCETTAZIONE: "
	case NonAccettazione:
		if virus {
			return "AVVISO DI NON ACCETTAZIONE PER VIRUS: "
		}
		return "AVVISO DI NON ACCETTAZIONE: "
	case PresaInCarico:
		return "PRESA IN CARICO: "
	case AvvenutaConsegna:
		return "CONSEGNA: "
	case ErroreConsegna:
		if virus {
			return "AVVISO DI MANCATA CONSEGNA PER VIRUS: "
		}
		return "AVVISO DI MANCATA CONSEGNA: "
	case PreavvisoErrore:
		return "AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO: "
	case RilevazioneVirus:
		return "PROBLEMA DI SICUREZZA: "
	}
	return ""
}

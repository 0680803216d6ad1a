package sdi

import (
	"fmt"
	"time"
)

// MessageType is the two-letter code of a message about a file.
// spec: MessaggiTypes-1.1, MessaggiFatturaTypes-1.0
type MessageType string

// The nine messages.
const (
	RC MessageType = "RC" // receipt of delivery
	NS MessageType = "NS" // discarded: the invoice is not issued
	MC MessageType = "MC" // not delivered: PA, SdI goes on trying; private, final and the invoice is issued
	NE MessageType = "NE" // outcome by the public buyer (EC relayed)
	DT MessageType = "DT" // 15 days without outcome; not an acceptance
	AT MessageType = "AT" // attestation of transmission: delivery impossible for good
	MT MessageType = "MT" // metadata that accompany a file to its receiver
	EC MessageType = "EC" // outcome, from the public buyer to SdI
	SE MessageType = "SE" // discard of an EC
)

// Valid says whether t is one of the nine.
func (t MessageType) Valid() bool {
	switch t {
	case RC, NS, MC, NE, DT, AT, MT, EC, SE:
		return true
	}
	return false
}

// Schema says which of the two message schemas, and which namespace, a message uses.
type Schema uint8

// The three namespaces seen in the wild.
const (
	SchemaPA      Schema = iota + 1 // MessaggiTypes 1.1
	SchemaPAOld                     // the same, namespace without "gov"
	SchemaPrivati                   // MessaggiFatturaTypes 1.0
)

// Namespaces of the schemas.
const (
	NamespacePA      = "http://www.fatturapa.gov.it/sdi/messaggi/v1.0"
	NamespacePAOld   = "http://www.fatturapa.it/sdi/messaggi/v1.0"
	NamespacePrivati = "http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fattura/messaggi/v1.0"
)

func (s Schema) String() string {
	switch s {
	case SchemaPA:
		return "PA"
	case SchemaPAOld:
		return "PA (namespace without gov)"
	case SchemaPrivati:
		return "privati"
	}
	return fmt.Sprintf("Schema(%d)", uint8(s))
}

// Namespace is the target namespace; "" for an unknown schema.
func (s Schema) Namespace() string {
	switch s {
	case SchemaPA:
		return NamespacePA
	case SchemaPAOld:
		return NamespacePAOld
	case SchemaPrivati:
		return NamespacePrivati
	}
	return ""
}

func schemaOf(ns string) (Schema, bool) {
	switch ns {
	case NamespacePA:
		return SchemaPA, true
	case NamespacePAOld:
		return SchemaPAOld, true
	case NamespacePrivati:
		return SchemaPrivati, true
	}
	return 0, false
}

// Intestazione is what the messages have in common. Fields that a message does not have are
// zero.
type Intestazione struct {
	Versione            string // always "1.0"; absent from some official examples
	IdentificativoSdI   string // 1-12 digits in PA messages, 1-36 characters in private ones
	NomeFile            string // the file that the message is about
	Hash                string // private only: SHA-256 of the transmitted file, lower-case hex
	DataOraRicezione    time.Time
	RiferimentoArchivio *RiferimentoArchivio
	MessageID           string // 1-14 characters in PA messages, 1-36 in private ones
	PecMessageID        string
	Note                string
}

// RiferimentoArchivio names the zip in which the file travelled.
type RiferimentoArchivio struct {
	IdentificativoSdI string
	NomeFile          string
}

// Destinatario is the office or channel that a file was for.
type Destinatario struct {
	Codice      string // 6 or 7 characters; empty in receipts of the test environment
	Descrizione string
}

// RiferimentoFattura singles out one invoice of a lot.
type RiferimentoFattura struct {
	NumeroFattura    string
	AnnoFattura      string
	PosizioneFattura int // 1-based; 0 when absent
}

// Errore is one failed control of a discarded file.
type Errore struct {
	Codice       string // five digits, see the list of controls
	Descrizione  string
	Suggerimento string // private only
}

// EsitoCommittente is the public buyer's answer.
type EsitoCommittente string

// The two answers.
const (
	EC01 EsitoCommittente = "EC01" // accepted
	EC02 EsitoCommittente = "EC02" // refused
)

// Scarto is why SdI discarded an outcome.
type Scarto string

// The two reasons.
const (
	EN00 Scarto = "EN00" // not conforming to the format
	EN01 Scarto = "EN01" // not admissible
)

// Contenuto is the typed body of a message: one of the pointer types below.
type Contenuto interface {
	Tipo() MessageType
	Testa() *Intestazione
}

// RicevutaConsegna (RC): SdI has delivered the file.
type RicevutaConsegna struct {
	Intestazione
	DataOraConsegna              time.Time
	Destinatario                 Destinatario
	IntermediarioConDupliceRuolo bool // PA
	FlussoSemplificato           bool // private
}

// NotificaScarto (NS; RicevutaScarto in the private schema): controls failed.
type NotificaScarto struct {
	Intestazione
	ListaErrori []Errore // 1-200
}

// NotificaMancataConsegna (MC; RicevutaImpossibilitaRecapito in the private schema).
type NotificaMancataConsegna struct {
	Intestazione
	DataMessaADisposizione time.Time // private only: the day from which the buyer finds it in the reserved area
	Descrizione            string
}

// NotificaEsito (NE) relays the public buyer's outcome.
type NotificaEsito struct {
	Intestazione
	EsitoCommittente             NotificaEsitoCommittente
	IntermediarioConDupliceRuolo bool
}

// NotificaDecorrenzaTermini (DT): the term for an outcome has passed.
type NotificaDecorrenzaTermini struct {
	Intestazione
	RiferimentoFattura           *RiferimentoFattura
	Descrizione                  string
	IntermediarioConDupliceRuolo bool
}

// AttestazioneTrasmissioneFattura (AT): proof that SdI has the file and could not deliver it.
type AttestazioneTrasmissioneFattura struct {
	Intestazione
	Destinatario      Destinatario
	HashFileOriginale string // SHA-256, hex
}

// MetadatiInvioFile (MT; FileMetadati in the private schema) goes with a file to its receiver.
type MetadatiInvioFile struct {
	Intestazione
	CodiceDestinatario string
	Formato            string // FPA12, FPR12, FSM10, SDI10, SDI11
	TentativiInvio     int
}

// NotificaEsitoCommittente (EC): outcome, from the public buyer.
type NotificaEsitoCommittente struct {
	Intestazione                             // only Versione and IdentificativoSdI
	RiferimentoFattura   *RiferimentoFattura // absent: the whole file
	Esito                EsitoCommittente
	Descrizione          string
	MessageIDCommittente string
}

// ScartoEsitoCommittente (SE): SdI refuses an outcome.
type ScartoEsitoCommittente struct {
	Intestazione
	RiferimentoFattura   *RiferimentoFattura
	Scarto               Scarto
	MessageIDCommittente string
}

// Tipo implements Contenuto.
func (*RicevutaConsegna) Tipo() MessageType                { return RC }
func (*NotificaScarto) Tipo() MessageType                  { return NS }
func (*NotificaMancataConsegna) Tipo() MessageType         { return MC }
func (*NotificaEsito) Tipo() MessageType                   { return NE }
func (*NotificaDecorrenzaTermini) Tipo() MessageType       { return DT }
func (*AttestazioneTrasmissioneFattura) Tipo() MessageType { return AT }
func (*MetadatiInvioFile) Tipo() MessageType               { return MT }
func (*NotificaEsitoCommittente) Tipo() MessageType        { return EC }
func (*ScartoEsitoCommittente) Tipo() MessageType          { return SE }

// Testa gives the common fields.
func (h *Intestazione) Testa() *Intestazione { return h }

// A Message is one message as received and as understood.
type Message struct {
	Name   string // file name under which it came
	Raw    []byte // exactly as received; for AT the zip
	XML    []byte // the XML document inside Raw
	Schema Schema
	Signed bool // a ds:Signature is present; nothing is said of its validity

	Contenuto Contenuto

	// Original is the invoice file that an AT zip carries beside the attestation, if any.
	Original *ArchiveMember

	// Warnings lists each tolerance that reading needed, in words.
	Warnings []string
}

// An ArchiveMember is one file of a zip.
type ArchiveMember struct {
	Name string
	Data []byte
}

// Type is the type of the content.
func (m *Message) Type() MessageType { return m.Contenuto.Tipo() }

// Head gives the common fields.
func (m *Message) Head() *Intestazione { return m.Contenuto.Testa() }

func (m *Message) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

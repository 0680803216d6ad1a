package sincro

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Index is a PIndex without its file groups, which are streamed (Write, Read).
type Index struct {
	Language    string // xs:language, for example "it"
	ID          ID
	Application Application
	Sources     []Source // indexes that this one derives from
	Volume      Volume
	Process     Process
}

// ID is an identifier in a named scheme, for example {"uuid", "0b9a..."}.
type ID struct {
	Scheme string
	Value  string
}

// Application is the program that wrote the index (CreatingApplication).
type Application struct {
	Name     string `xml:"http://www.uni.com/U3011/sincro-v2/ Name"`
	Version  string `xml:"http://www.uni.com/U3011/sincro-v2/ Version"`
	Producer string `xml:"http://www.uni.com/U3011/sincro-v2/ Producer"`
}

// Derivation says how an index comes from an earlier one.
type Derivation string

// The three derivations.
const (
	OneToOne  Derivation = "onetoone"  // a new version of a package
	ManyToOne Derivation = "manytoone" // several packages made one
	OneToMany Derivation = "onetomany" // one package divided, or another preserver's taken in
)

// Source is an earlier index (PIndexSource).
type Source struct {
	Derivation Derivation
	ID         ID
	Path       string // URI reference
	Hash       Hash
}

// Volume is the set of files that the index is about (PVolume): the package.
type Volume struct {
	ID          ID
	Label       string
	Description string
	Sources     []VolumeSource
	Group       *Group // what the package belongs to, for example a taxpayer and a fiscal year
}

// VolumeSource is an earlier volume (PVolumeSource).
type VolumeSource struct {
	ID     ID
	PIndex ID
}

// Group is what several volumes belong to (PVolumeGroup).
type Group struct {
	ID          ID
	Label       string
	Description string
}

// FileGroup is one unit of the package with its files.
type FileGroup struct {
	ID          ID
	Label       string
	Description string
	Files       []File // at least one
	Relations   []Relation
	Metadata    *Metadata
}

// Encoding of a file, from the closed list of the schema.
type Encoding string

// The encodings.
const (
	SevenBit        Encoding = "7bit"
	EightBit        Encoding = "8bit"
	Base64          Encoding = "base64"
	Binary          Encoding = "binary"
	QuotedPrintable Encoding = "quoted-printable"
)

// File is one file with its digest.
type File struct {
	Encoding  Encoding
	Format    string // media type
	Extension string // without the dot; may be empty
	ID        ID
	Path      string // URI reference, relative to the index
	Hash      Hash
	Previous  *PreviousHash
	Relations []Relation
	Metadata  *Metadata
}

// Hash is a digest as text.
type Hash struct {
	Function  string // for example SHA256
	Canonical bool   // the digest is over the canonical form of the XML
	Value     string
}

// HashOf is the Hash of a raw SHA-256 digest.
func HashOf(sum [sha256.Size]byte) Hash {
	return Hash{Function: SHA256, Value: base64.StdEncoding.EncodeToString(sum[:])}
}

// PreviousHash is the digest that the file had in an earlier index.
type PreviousHash struct {
	Hash
	Related string // identifier of that index
}

// Relation ties a group or a file to others, for example {"integra", [unit id]}.
type Relation struct {
	Type   string
	Values []string // at least one
}

// Metadata is a metadata file kept beside the documents (MoreInfo with ExternalMetadata).
// Metadata embedded in the index is read as present (Embedded) and never written.
type Metadata struct {
	Schema    string // URI reference of its schema
	Encoding  Encoding
	Format    string
	Extension string
	ID        ID
	Path      string
	Hash      Hash
	Embedded  bool // EmbeddedMetadata: only Schema is told
}

// AgentType is natural or legal person.
type AgentType string

// The two types.
const (
	NaturalPerson AgentType = "natural person"
	LegalPerson   AgentType = "legal person"
)

// HolderRole is what a holder is to the documents.
type HolderRole string

// The four roles.
const (
	Produttore   HolderRole = "soggetto produttore"
	Proprietario HolderRole = "soggetto proprietario"
	Possessore   HolderRole = "soggetto possessore"
	Detentore    HolderRole = "soggetto detentore"
)

// Agent is a person who answers for something. Either FirstName and LastName, or FormalName.
type Agent struct {
	Type       AgentType
	IDs        []AgentID
	FirstName  string
	LastName   string
	FormalName string
	Documents  []RelevantDocument // at least one: contract, manual, deed of appointment
}

// AgentID identifies a person, for example VATIT-01234567897 or TINIT-RSSMRA80A01H501U.
// spec: EN319412-1 §5.1.3 (semantics identifiers)
type AgentID struct {
	Value     string
	Expansion string // @expan
	Authority string // @nameRegistrationAuthority
}

// RelevantDocument is the deed that gives an agent its part.
type RelevantDocument struct {
	Text         string
	Hash         string
	HashFunction string
	URI          string
}

// Holder is an agent that holds the documents.
type Holder struct {
	Agent
	Role HolderRole
}

// Signer is an agent that may sign the index.
type Signer struct {
	Agent
	Role string // free text; may be empty
}

// Process says who submits, holds and signs, and when.
type Process struct {
	Submitter Agent
	Holders   []Holder // at least one
	Signers   []Signer // at least one
	Time      time.Time
	// AttachedTimeStamp: the time stamp is inside the signature file (CAdES-T) and not beside it.
	AttachedTimeStamp bool
	// TimeStampURI is the other form of the time reference (TimeStamp in place of TimeInfo); it is
	// read, and written when set.
	TimeStampURI      string
	TimeStampEncoding Encoding
	TimeStampFormat   string
	Laws              string // LawsAndRegulations
}

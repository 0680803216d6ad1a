// Package pdd is the layout of a pacchetto di distribuzione: documents that are shown to somebody, in a ZIP that opens in a
// browser without network and is verified without whoever made it.
//
// It owns the names of its parts, the names that files of unknown origin get in it, its viewer and verifica.sh, and the
// verification of a package from its bytes, with the same verdict as verifica.sh. It refuses to choose what goes in, to sign,
// to fetch anything, and to decide whom to trust: roots and the log's key are the caller's.
package pdd

import "embed"

// Names of the parts.
const (
	IndexFile  = "PdD.xml"
	SignedFile = "PdD.xml.p7m"
	StampFile  = "PdD.xml.p7m.tsr"
	SumsFile   = "PdD.sha256"
	DataFile   = "data.js"

	Documents = "documenti"
	Receipts  = "ricevute"
	Metadata  = "metadati"
	Views     = "viste"
	Proofs    = "prove"
	UnitProof = Proofs + "/unita"

	// Under Proofs, in a folder for each package of origin.
	OriginSigned = "PIndex.xml.p7m"
	OriginStamp  = "PIndex.xml.p7m.tsr"
	OriginList   = "elenco.txt"
	OriginProof  = "pacchetto.tlog-proof"
	// OriginEvidence renews the time stamp (RFC 4998), over the package of origin as a whole, whose digest the log states.
	OriginEvidence = "evidenza.ers"
	// ProofSuffix is of receipts of the log.
	ProofSuffix = ".tlog-proof"
)

//go:embed files
var files embed.FS

// Fixed are the parts that are the same in every package, by their names in it.
func Fixed() map[string][]byte {
	out := map[string][]byte{}
	for name, from := range map[string]string{
		"index.html": "index.html", "LEGGIMI.txt": "LEGGIMI.txt", "verifica.sh": "verifica.sh",
		"visore/visore.js": "visore.js", "visore/visore.css": "visore.css",
	} {
		raw, err := files.ReadFile("files/" + from)
		if err != nil {
			panic(err) // it is in the program
		}
		out[name] = raw
	}
	return out
}

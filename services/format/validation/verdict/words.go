package verdict

// Word is a word of reports in a language; "en" gives the word itself, or what stands for it.
func Word(word, lang string) string {
	if lang == "en" {
		if t, ok := english[word]; ok {
			return t
		}
		return word
	}
	if t, ok := italian[word]; ok {
		return t
	}
	return word
}

var english = map[string]string{
	"foot":   "Judged by ETSI EN 319 102-1; a report is no certificate",
	"detail": "detail", "chain": "chain of certificates", "checks": "what was looked at",
	"no chain": "no chain to a trusted authority was found",
}

var italian = map[string]string{
	"validation report": "Rapporto di verifica", "file without a name": "file senza nome", "verdict": "esito", "kind": "tipo", "size": "dimensione",
	"foot":              "Giudizio secondo ETSI EN 319 102-1; il rapporto non è una certificazione",
	"time of judgement": "momento del giudizio", "sub-indication": "sotto-indicazione", "meaning": "significato", "form": "forma", "country": "paese",
	"serial": "numero di serie", "trust service": "servizio fiduciario", "chain": "catena dei certificati", "no chain": "nessuna catena porta a un'autorità riconosciuta",
	"checks": "controlli", "trusted": "riconosciuta", "not relied on": "non più affidabile", "relied on until": "affidabile fino al",
	"good": "valido", "revoked": "revocato", "suspended": "sospeso", "unknown": "ignota", "passed": "superato", "failed": "non superato", "not-judged": "non giudicato",
	"counter-signature of signature": "controfirma della firma", "signature": "firma", "time stamp": "marca temporale", "signer": "firmatario", "id": "codice", "organization": "organizzazione",
	"issuer": "emittente", "level": "livello", "stated time": "ora dichiarata", "proven time": "ora provata", "judged at": "giudicata al",
	"qualification": "qualificazione", "authority": "autorità", "time": "ora", "reason": "motivo", "detail": "dettaglio (in inglese)", "algorithms": "algoritmi",
	"revocation": "revoca", "content": "contenuto", "saved": "salvato", "warning": "avviso", "intact": "integra", "yes": "sì", "no": "no", "qualified": "qualificata",
	"qualified signature": "firma qualificata", "qualified seal": "sigillo qualificato", "not qualified": "non qualificata", "undetermined": "non determinata",
	"advanced signature with a qualified certificate": "firma avanzata con certificato qualificato", "advanced seal with a qualified certificate": "sigillo avanzato con certificato qualificato",
	"digest": "impronta", "content type": "tipo di contenuto", "signing certificate": "certificato del firmatario", "signing time": "ora di firma",
	"trust": "fiducia", "key usage": "uso della chiave", "document": "documento", "byte range": "intervallo di byte", "structure": "struttura", "later changes": "modifiche successive", "format": "forma",
	"digest of the content": "impronta del contenuto", "digest under the signature": "impronta sotto la firma", "key of the signer": "chiave del firmatario",
}

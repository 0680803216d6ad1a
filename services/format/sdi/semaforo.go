package sdi

// Semaforo is the traffic light that people know from the portal of SdI.
type Semaforo uint8

// The four lights.
const (
	Nero   Semaforo = iota + 1 // black: on its way, nothing is decided
	Verde                      // green: issued and delivered, or accepted
	Giallo                     // yellow: issued, and there is something to know or to do
	Rosso                      // red: not issued, or refused
)

// Parola is the light in a word, Italian and English.
func (s Semaforo) Parola() (italiano, english string) {
	switch s {
	case Verde:
		return "verde", "green"
	case Giallo:
		return "giallo", "yellow"
	case Rosso:
		return "rosso", "red"
	}
	return "nero", "black"
}

// Stato is what is known of a file that was sent.
type Stato string

// The states; the transition table is in the README of the gateway.
const (
	StatoDaInviare     Stato = "RESERVED"         // not at SdI, as far as is known
	StatoInviata       Stato = "SENT"             // SdI has it
	StatoConsegnata    Stato = "DELIVERED"        // RC
	StatoDisponibile   Stato = "AVAILABLE"        // MC, private: final
	StatoNonConsegnata Stato = "DELIVERY_PENDING" // MC, public body: SdI goes on trying
	StatoScartata      Stato = "REJECTED"         // NS
	StatoAccettata     Stato = "ACCEPTED"         // NE EC01
	StatoRifiutata     Stato = "REFUSED"          // NE EC02
	StatoDecorsa       Stato = "TERM_EXPIRED"     // DT
	StatoAttestata     Stato = "ATTESTED"         // AT
)

// Segnale is a light with its reason in words.
type Segnale struct {
	Luce     Semaforo
	Italiano string
	English  string
}

// SegnaleDi gives the light of a state. pubblica says whether the file goes to a public body (FPA12): RC ends
// the private flow only.
// spec: AllA-1.9 §1.4-1.6; SDICoop-T-3.2 §2
func SegnaleDi(s Stato, pubblica bool) Segnale {
	switch s {
	case StatoInviata:
		return Segnale{Nero, "il Sistema di Interscambio ha ricevuto il file e lo controlla", "SdI has received the file and is checking it"}
	case StatoConsegnata:
		if pubblica {
			return Segnale{Giallo, "consegnata all'amministrazione, che ha quindici giorni per rispondere", "delivered to the public body, which has fifteen days to answer"}
		}
		return Segnale{Verde, "emessa e consegnata al destinatario", "issued and delivered to the recipient"}
	case StatoDisponibile:
		return Segnale{Giallo, "emessa, non recapitata: è nell'area riservata del cliente, che va avvisato", "issued, not delivered: it is in the customer's reserved area, and the customer is to be told"}
	case StatoNonConsegnata:
		return Segnale{Giallo, "la consegna all'amministrazione non è riuscita: il Sistema di Interscambio riprova", "delivery to the public body failed: SdI goes on trying"}
	case StatoScartata:
		return Segnale{Rosso, "scartata: la fattura non è emessa; va corretta e inviata di nuovo entro cinque giorni", "discarded: the invoice is not issued; correct it and send it again within five days"}
	case StatoAccettata:
		return Segnale{Verde, "accettata dall'amministrazione", "accepted by the public body"}
	case StatoRifiutata:
		return Segnale{Rosso, "rifiutata dall'amministrazione: il numero è di nuovo libero", "refused by the public body: the number is free again"}
	case StatoDecorsa:
		return Segnale{Giallo, "l'amministrazione non ha risposto entro quindici giorni: il silenzio non è né accettazione né rifiuto", "the public body did not answer within fifteen days: silence is neither acceptance nor refusal"}
	case StatoAttestata:
		return Segnale{Giallo, "la consegna è impossibile; l'attestazione prova la trasmissione: il file va recapitato all'amministrazione con altri mezzi", "delivery is impossible; the attestation proves the transmission: hand the file to the public body by other means"}
	}
	return Segnale{Nero, "non è ancora al Sistema di Interscambio, per quanto si sa", "not at SdI yet, as far as is known"}
}

// Significato says what one message alone means for the invoice that it is about. ok is false for messages
// that say nothing about an invoice's fate (MT, EC, SE): they have words and no light.
func Significato(m *Message) (s Segnale, ok bool) {
	pubblica := m.Schema != SchemaPrivati
	switch c := m.Contenuto.(type) {
	case *RicevutaConsegna:
		return SegnaleDi(StatoConsegnata, pubblica), true
	case *NotificaScarto:
		return SegnaleDi(StatoScartata, pubblica), true
	case *NotificaMancataConsegna:
		if pubblica {
			return SegnaleDi(StatoNonConsegnata, true), true
		}
		return SegnaleDi(StatoDisponibile, false), true
	case *NotificaEsito:
		if c.EsitoCommittente.Esito == EC02 {
			return SegnaleDi(StatoRifiutata, true), true
		}
		return SegnaleDi(StatoAccettata, true), true
	case *NotificaDecorrenzaTermini:
		return SegnaleDi(StatoDecorsa, true), true
	case *AttestazioneTrasmissioneFattura:
		return SegnaleDi(StatoAttestata, true), true
	case *NotificaEsitoCommittente:
		if c.Esito == EC02 {
			return Segnale{0, "l'amministrazione rifiuta la fattura", "the public body refuses the invoice"}, false
		}
		return Segnale{0, "l'amministrazione accetta la fattura", "the public body accepts the invoice"}, false
	case *ScartoEsitoCommittente:
		if c.Scarto == EN01 {
			return Segnale{0, "l'esito inviato non è ammissibile: non conta", "the outcome that was sent is not admissible: it does not count"}, false
		}
		return Segnale{0, "l'esito inviato non è conforme al formato: non conta, e può essere corretto entro i quindici giorni", "the outcome that was sent breaks the format: it does not count, and may be corrected within the fifteen days"}, false
	}
	return Segnale{0, "metadati che accompagnano una fattura ricevuta", "metadata that accompany a received invoice"}, false
}

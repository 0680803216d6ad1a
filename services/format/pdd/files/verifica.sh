#!/bin/sh
# verifica.sh [RADICI.pem [CARTELLA]]
#
# Verifica questo pacchetto di distribuzione senza rete e senza chi lo ha prodotto: servono sh con i comandi di POSIX, openssl e xmllint.
# Verifies this package without network and without whoever made it: sh with the commands of POSIX, openssl and xmllint are needed.
#
# Questa copia viene da chi ha fatto il pacchetto: chi non se ne fida prende lo stesso programma altrove, dal codice sorgente di Ceralacca
# (services/format/pdd/files/verifica.sh), e gli indica la CARTELLA del pacchetto, che altrimenti è quella in cui sta il programma.
# This copy comes from whoever made the package: who does not trust it takes another, from the source of Ceralacca, and has it verify the
# folder of the package (CARTELLA), which else is the one that the program lies in.
#
# RADICI.pem: certificati fidati di chi firma e di chi marca (PEM). Senza, si verifica l'integrità ma non l'identità.
# Esce con 0 solo se tutto regge, con 98 se manca un comando. Exits with 0 only if everything holds, with 98 if a command is missing.

LC_ALL=C
export LC_ALL
radici=${1-}
case $radici in '' | /*) ;; *) radici=$PWD/$radici ;; esac
manca=
for c in openssl xmllint dirname basename find mkdir rmdir rm cat head wc tr sed sort cut paste fold od xargs cmp uniq; do
	command -v "$c" >/dev/null 2>&1 || manca="$manca $c"
done
if [ -n "$manca" ]; then
	echo "mancano:$manca"
	echo "VERIFICA NON ESEGUITA"
	exit 98
fi
cd "${2:-$(dirname "$0")}" || exit 99
lavoro=${TMPDIR:-/tmp}/verifica-$$-$(openssl rand -hex 8)
mkdir -m 700 "$lavoro" || exit 99
male=
guasto=

passo() {
	detto=$1
	shift
	if "$@" >"$lavoro/detto" 2>&1; then
		echo "bene  $detto"
	else
		echo "MALE  $detto"
		head -n 20 "$lavoro/detto"
		male=$male.
	fi
}

# fiducia FILE: in "fidati" le radici e, se accanto al FILE c'è la lista dei certificati revocati di quando fu sigillato, anche quella; in
# "revoche" l'opzione che la fa usare.
fiducia() {
	fidati=$radici revoche=
	if [ -f "$1.crl" ]; then
		cat "$radici" "$1.crl" >"$lavoro/fidati" || return 1
		fidati=$lavoro/fidati revoche=-crl_check
	fi
}

# firma P7M CONTENUTO: la firma regge, e quello che firma va in CONTENUTO.
firma() {
	if [ -n "$radici" ]; then
		fiducia "$1" &&
			openssl cms -verify -binary -inform DER -in "$1" -CAfile "$fidati" $revoche -purpose any -no_check_time -out "$2"
	else
		openssl cms -verify -binary -inform DER -in "$1" -noverify -out "$2"
	fi
}

# marca TSR DATI: la marca temporale regge, ed è di DATI.
marca() {
	if [ -n "$radici" ]; then
		fiducia "$1" && openssl ts -verify -in "$1" -data "$2" -CAfile "$fidati" $revoche -no_check_time
	else
		openssl ts -reply -in "$1" -token_out -out "$lavoro/token" &&
			openssl pkcs7 -inform DER -in "$lavoro/token" -print_certs -out "$lavoro/certificati" &&
			openssl ts -verify -in "$1" -data "$2" -CAfile "$lavoro/certificati" -partial_chain -no_check_time
	fi
}

# coppie INDICE: percorso e impronta di ogni file che l'indice nomina, una riga per ciascuno.
coppie() {
	quali="//*[local-name()='FileGroup']//*[local-name()='Path' or local-name()='Hash']/text()"
	xmllint --nonet --xpath "$quali" "$1" >"$lavoro/coppie" || return 1
	echo >>"$lavoro/coppie"
	[ "$(xmllint --nonet --xpath "count($quali)" "$1")" = "$(grep_pieni <"$lavoro/coppie" | wc -l | tr -d ' ')" ]
}

# righe non vuote
grep_pieni() { tr -s '\n'; }

# soltanto A B: le righe di A che non sono in B.
soltanto() { sort -u "$1" | sort - "$2" "$2" | uniq -u; }

# impronte: l'impronta e il nome dei file che si leggono in entrata, una riga per ciascuno.
impronte() { sed 's,^,./,' | xargs openssl dgst -sha256 -r | sed 's, \*\./, ,'; }

# La base64 di 32 byte finisce con un solo segno di riempimento: letto come A, ogni impronta diventa di 33 byte.
elenco() {
	grep_pieni <"$lavoro/coppie" | paste -d ' ' - - >"$lavoro/righe" &&
		cut -d ' ' -f 1 "$lavoro/righe" >"$lavoro/percorsi" &&
		{ cut -d ' ' -f 2 "$lavoro/righe" | tr -d '\n' | tr '=' 'A' | fold -w 64 && echo; } | openssl base64 -d >"$lavoro/byte" &&
		{ od -A n -v -t x1 "$lavoro/byte" | tr -d ' \t\n' | fold -w 66 && echo; } | cut -c 1-64 >"$lavoro/impronte" &&
		paste -d ' ' "$lavoro/impronte" "$lavoro/percorsi" | sort >"$lavoro/elenco" &&
		cut -d ' ' -f 2 "$lavoro/righe" | paste -d ' ' - "$lavoro/percorsi" | sort >"$lavoro/ordinate" &&
		[ -s "$lavoro/elenco" ]
}

# Ogni file del pacchetto è nell'indice, salvo l'indice stesso con firma, marca e controllo: quanto profonda la sua cartella, comunque si chiami.
nessuno_in_piu() {
	find . ! -type d >"$lavoro/trovati" || return 1
	sed 's,^\./,,' "$lavoro/trovati" | sort >"$lavoro/presenti"
	printf '%s\n' PdD.xml PdD.xml.p7m PdD.xml.p7m.tsr PdD.sha256 | cat - "$lavoro/percorsi" | sort | cmp - "$lavoro/presenti"
}

controllo() { printf '%s\n' PdD.xml PdD.xml.p7m PdD.xml.p7m.tsr | impronte | sed 's, ,  ,' | cmp - PdD.sha256; }

# Ogni file che l'indice nomina c'è e ha la sua impronta; se no, dice quali.
indicati() {
	impronte <"$lavoro/percorsi" | sort >"$lavoro/calcolate"
	soltanto "$lavoro/elenco" "$lavoro/calcolate"
	cmp -s "$lavoro/calcolate" "$lavoro/elenco"
}

# I documenti di un pacchetto di archiviazione sono quelli che il suo indice firmato nomina, con il nome che hanno qui.
provenienza() {
	xmllint --nonet --xpath "//*[local-name()='FileGroup']//*[local-name()='Hash']/text()" "$lavoro/origine" | tr -s '\n' | sort -u >"$lavoro/conservati" || return 1
	[ -s "$1/elenco.txt" ] || return 1
	cut -d ' ' -f 1 "$1/elenco.txt" >"$lavoro/provenienti"
	soltanto "$lavoro/provenienti" "$lavoro/conservati" >"$lavoro/estranei"
	soltanto "$1/elenco.txt" "$lavoro/ordinate" >>"$lavoro/estranei"
	[ ! -s "$lavoro/estranei" ]
}

passo "controllo degli indici" controllo
passo "firma dell'indice PdD.xml" firma PdD.xml.p7m "$lavoro/PdD.xml"
passo "l'indice è quello firmato" cmp "$lavoro/PdD.xml" PdD.xml
passo "marca temporale dell'indice" marca PdD.xml.p7m.tsr PdD.xml.p7m
passo "l'indice si legge" coppie PdD.xml
passo "le impronte si leggono" elenco
passo "ogni file è quello dell'indice" indicati
impronte <"$lavoro/percorsi" | sort | cmp -s - "$lavoro/elenco" || guasto=$guasto.
passo "nessun file in più" nessuno_in_piu
for p in prove/*/PIndex.xml.p7m; do
	[ -f "$p" ] || continue
	d=$(dirname "$p")
	passo "firma del pacchetto di archiviazione $(basename "$d")" firma "$p" "$lavoro/origine"
	passo "sua marca temporale" marca "$p.tsr" "$p"
	passo "i documenti vengono da lì" provenienza "$d"
done

for f in detto fidati token certificati coppie righe percorsi byte impronte elenco calcolate ordinate trovati presenti conservati provenienti estranei origine PdD.xml; do
	rm -f "$lavoro/$f"
done
rmdir "$lavoro"
[ -n "$radici" ] || echo "nota  senza RADICI.pem l'identità di chi firma e di chi marca non è verificata"
if [ -z "$male$guasto" ] && [ "x$male$guasto" = x ]; then
	echo "VERIFICA RIUSCITA"
	exit 0
fi
echo "VERIFICA NON RIUSCITA"
exit 99
exit 99

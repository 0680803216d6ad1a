package pecgateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

const (
	mostWords   = 400      // of one message
	longestWord = 40       // letters; the rest does not count
	mostText    = 64 << 10 // bytes of text that are looked at
	mostTerms   = 8        // of one search
	mostFiles   = 100      // names of files that a row holds
)

// fold makes words comparable: without case and accents.
func fold(s string) string {
	s = norm.NFKD.String(cases.Fold().String(norm.NFKC.String(s)))
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, s)
}

// terms are the words of a text, folded: runs of letters and digits.
func terms(text string) []string {
	list := strings.FieldsFunc(fold(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, w := range list {
		if runes := []rune(w); len(runes) > longestWord {
			list[i] = string(runes[:longestWord])
		}
	}
	return list
}

// wordsOf gives each word of the texts once, the first ones when there are too many.
func wordsOf(texts ...string) []string {
	out, seen := []string{}, map[string]bool{}
	for _, text := range texts {
		for _, w := range terms(text) {
			if len(out) == mostWords {
				return out
			}
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
		}
	}
	return out
}

// note takes from a reading what the message is searched by. Of receipts the envelope counts alone: their text is the
// provider's, and their files are always the same.
func (j *judged) note() {
	texts := []string{j.subject, j.from, j.sender, strings.Join(j.to[:min(len(j.to), 200)], " ")}
	if j.reading != nil && !j.tipo.Receipt() {
		for _, p := range partsOf(j.reading) {
			if len(j.files) < mostFiles && !ofEnvelope[p.shown.GetFileName()] {
				j.files = append(j.files, trim(p.shown.GetFileName(), 300))
			}
		}
		texts = append(texts, strings.Join(j.files, " "), readable(j.reading))
	}
	j.words = wordsOf(texts...)
}

// ofEnvelope are the files that every transport envelope has. spec: RFC6109 §3.1.4
var ofEnvelope = map[string]bool{"daticert.xml": true, "postacert.eml": true, "smime.p7s": true}

// readable is the beginning of the text of a message, of the original when it is in an envelope.
func readable(r *pec.Reading) string {
	root := r.Root
	if original, err := r.OriginalMessage(); err == nil && original != nil {
		root = original
	}
	var out strings.Builder
	parts := root.TextParts()
	plain := slices.ContainsFunc(parts, func(p *pec.Part) bool { return p.MediaType == "text/plain" })
	for _, p := range parts {
		if plain != (p.MediaType == "text/plain") || p.End-p.BodyStart > 4<<20 {
			continue
		}
		text, _, err := p.Text()
		if err != nil {
			continue
		}
		if !plain {
			text = pec.HTMLText(text)
		}
		out.WriteString(text[:min(len(text), mostText-min(out.Len(), mostText))])
		out.WriteByte(' ')
	}
	return strings.ToValidUTF8(out.String(), " ")
}

// noted is a message with what it is searched by.
type noted struct {
	id    uuid.UUID
	words []string
	files []string
}

// searchable has messages found by their words and the names of their files, a little later.
func (s *Service) searchable(ctx context.Context, tx pgx.Tx, box db.Mailbox, list ...noted) error {
	var named []db.NameFilesParams
	var owed []db.OweWordsParams
	for _, n := range list {
		if len(n.files) > 0 {
			named = append(named, db.NameFilesParams{TenantID: box.TenantID, ID: n.id, Attachments: n.files})
		}
		if len(n.words) > 0 {
			owed = append(owed, db.OweWordsParams{TenantID: box.TenantID, MailboxID: box.ID, MessageID: n.id, Words: n.words})
		}
	}
	var failed error
	note := func(_ int, err error) { failed = errors.Join(failed, err) }
	if len(named) > 0 {
		q(tx).NameFiles(ctx, named).Exec(note)
	}
	if len(owed) > 0 && failed == nil {
		q(tx).OweWords(ctx, owed).Exec(note)
	}
	return failed
}

const wordBatch = 200 // messages

// enterWords enters what is owed to the search.
func (s *Service) enterWords(ctx context.Context) error {
	for ctx.Err() == nil {
		entered := int64(0)
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			entered, err = q(tx).EnterWords(ctx, wordBatch)
			return err
		})
		if err != nil || entered < wordBatch {
			return err
		}
	}
	return nil
}

// sentSearchable has a message of ours found as a received one is.
func (s *Service) sentSearchable(ctx context.Context, tx pgx.Tx, box db.Mailbox, l *letter) error {
	files := []string{}
	for _, f := range l.draft.Attachments[:min(len(l.draft.Attachments), mostFiles)] {
		files = append(files, trim(f.Name, 300))
	}
	recipients := l.draft.Recipients()
	text := l.draft.Text[:min(len(l.draft.Text), mostText)]
	words := wordsOf(l.draft.Subject, box.Address, strings.Join(recipients[:min(len(recipients), 200)], " "), strings.Join(files, " "), strings.ToValidUTF8(text, " "))
	return s.searchable(ctx, tx, box, noted{l.id, words, files})
}

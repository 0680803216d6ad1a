package witness

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"ceralacca.dev/services/format/tlog"
)

// Paths of a witness.
const (
	addPath  = "/add-checkpoint"
	sizeType = "text/x.tlog.size" // spec: C2SP-witness §add-checkpoint
	plain    = "text/plain; charset=utf-8"
	// maxBody is more than the largest request that ParseRequest takes.
	maxBody = 128 << 10
)

// Handler serves a witness: POST /add-checkpoint by the protocol; GET / tells its key and its logs; GET
// /last?origin= gives the last checkpoint that it cosigned, with which owners compare their own.
func Handler(f *Folder, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+addPath, func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		line, err := f.Add(raw)
		answer(w, r, log, line, err)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", plain)
		fmt.Fprintln(w, f.Key())
		for _, l := range f.Logs() {
			fmt.Fprintf(w, "%d %s\n", l.Size, l.Origin)
		}
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) {
		for _, l := range f.Logs() {
			if l.Origin == r.FormValue("origin") && l.Checkpoint != nil {
				w.Header().Set("Content-Type", plain)
				_, _ = w.Write(l.Checkpoint)
				return
			}
		}
		http.Error(w, "no checkpoint of that log was cosigned", http.StatusNotFound)
	})
	return mux
}

// answer: spec: C2SP-witness §add-checkpoint
func answer(w http.ResponseWriter, r *http.Request, log *slog.Logger, line []byte, err error) {
	var no *tlog.WitnessError
	switch {
	case err == nil:
		w.Header().Set("Content-Type", plain)
		_, _ = w.Write(line)
	case errors.As(err, &no) && no.Status == http.StatusConflict:
		w.Header().Set("Content-Type", sizeType)
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", no.Size)
	case errors.As(err, &no):
		log.WarnContext(r.Context(), "a checkpoint was refused", "status", no.Status, "reason", err, "from", r.RemoteAddr)
		http.Error(w, no.Reason, no.Status)
	default:
		log.ErrorContext(r.Context(), "a checkpoint could not be cosigned", "error", err)
		http.Error(w, "the witness cannot keep its state", http.StatusInternalServerError)
	}
}

package sandbox

import (
	"net/http"

	"ceralacca.dev/services/sandbox/client"
)

// controlFTP is the part of the control API about the SDIFTP channel.
func (s *Server) controlFTP(handle func(pattern string, fn func(r *http.Request) (any, error))) {
	handle("POST /v1/ftp", func(r *http.Request) (any, error) {
		var in client.FTPAccreditationRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		a, err := s.exchange.AccreditFTP(in)
		if err != nil {
			return nil, bad(err)
		}
		return a, nil
	})
	handle("POST /v1/ftp/{id}/visit", func(r *http.Request) (any, error) {
		v, err := s.exchange.VisitFTP(r.Context(), r.PathValue("id"))
		if err != nil {
			return nil, &apiError{http.StatusNotFound, err.Error()}
		}
		return v, nil
	})
	handle("POST /v1/ftp/{id}/passive", func(r *http.Request) (any, error) {
		var in []client.FTPFile
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		if err := s.exchange.PassiveFTP(r.PathValue("id"), in); err != nil {
			return nil, bad(err)
		}
		return nil, nil
	})
	handle("POST /v1/ftp/{id}/report", func(r *http.Request) (any, error) {
		q := r.URL.Query()
		if err := s.exchange.ReportFTP(r.PathValue("id"), q.Get("without"), q.Get("with")); err != nil {
			return nil, bad(err)
		}
		return nil, nil
	})
}

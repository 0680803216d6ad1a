// Command commentgen writes the comments of configuration structs to a file
// that package run embeds: commentgen SOURCE_FOLDER OUTPUT_FILE.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"ceralacca.dev/services/internal/run"
)

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "commentgen:", err)
		os.Exit(1)
	}
}

func generate(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: commentgen SOURCE_FOLDER OUTPUT_FILE")
	}
	comments, err := run.ReadComments(os.DirFS(args[0]))
	if err != nil {
		return err
	}
	out, err := json.MarshalIndent(comments, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], append(out, '\n'), 0o644)
}

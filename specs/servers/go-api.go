// go-api answers HTTP requests with what mock-db knows. It is an ordinary Go program: net/http,
// one goroutine per request, blocking code on top of the runtime's epoll.
//
//	GET /value/KEY  asks the database; 200 with JSON, or 503 if the database cannot be asked
//	GET /ping       asks nobody
//
// PORT (8080) is the port, DB_ADDR (localhost:5432) is where the database listens.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// beats counts periods of 10 ms by a goroutine of its own: it shows whether the rest of the program goes on
// while one request waits.
var beats atomic.Int64

// answer is the body of a successful request.
type answer struct {
	Value string `json:"value"`
	// Beats is how often the heart beat, every 10 ms, while this request was served.
	Beats int64 `json:"beats"`
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// ask sends one line to the database and returns the line that comes back.
func ask(address, question string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(connection, "%s\n", question); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	return strings.TrimSpace(line), err
}

func main() {
	database := setting("DB_ADDR", "localhost:5432")
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			beats.Add(1)
		}
	}()
	http.HandleFunc("/ping", func(out http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(out, "pong")
	})
	http.HandleFunc("/value/", func(out http.ResponseWriter, request *http.Request) {
		before := beats.Load()
		value, err := ask(database, "GET "+strings.TrimPrefix(request.URL.Path, "/value/"))
		if err != nil {
			http.Error(out, err.Error(), http.StatusServiceUnavailable)
			return
		}
		out.Header().Set("Content-Type", "application/json")
		json.NewEncoder(out).Encode(answer{value, beats.Load() - before})
	})
	if err := http.ListenAndServe("localhost:"+setting("PORT", "8080"), nil); err != nil {
		fmt.Fprintln(os.Stderr, "go-api:", err)
		os.Exit(1)
	}
}

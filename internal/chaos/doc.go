// Package chaos holds tests that kill, stop and pause real processes while clients work, and judge what the clients saw:
//
//	go test -v -run TestLeaderKilled  ./internal/chaos
//	go test -v -run TestReplicaKilled ./internal/chaos
//	go test -v -run TestEvents        ./internal/chaos
//
// print, besides judging, how long clients had to wait.
package chaos

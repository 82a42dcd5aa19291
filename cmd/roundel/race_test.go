//go:build race && linux

package main

func init() { raceDetector = true }

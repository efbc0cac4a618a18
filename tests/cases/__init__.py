"""Inputs on which a system loses or invents something, by the promise that each one tests."""

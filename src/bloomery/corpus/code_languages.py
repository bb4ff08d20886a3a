"""Code languages: the programming language of a file, by its name, its suffix, else its first line.

Names are those that GitHub's Linguist gives. This module does not know files.
"""

from __future__ import annotations

import re

_BY_SUFFIX = {
    "Ada": "adb ads",
    "Assembly": "asm s",
    "Batchfile": "bat cmd",
    "C": "c h",
    "C#": "cs",
    "C++": "cc cpp cxx c++ hh hpp hxx",
    "CMake": "cmake",
    "CSS": "css",
    "Clojure": "clj cljs cljc",
    "CoffeeScript": "coffee",
    "Common Lisp": "lisp lsp",
    "Cuda": "cu cuh",
    "Cython": "pyx pxd",
    "D": "d",
    "Dart": "dart",
    "Elixir": "ex exs",
    "Elm": "elm",
    "Emacs Lisp": "el",
    "Erlang": "erl hrl",
    "F#": "fs fsi fsx",
    "Fortran": "f f77 f90 f95 f03 f08 for",
    "GLSL": "glsl frag vert",
    "Go": "go",
    "GraphQL": "graphql gql",
    "Groovy": "groovy gradle",
    "HCL": "tf hcl",
    "HTML": "html htm",
    "Haskell": "hs lhs",
    "JSON": "json",
    "Java": "java",
    "JavaScript": "js mjs cjs jsx",
    "Julia": "jl",
    "Kotlin": "kt kts",
    "Less": "less",
    "Lua": "lua",
    "Makefile": "mk mak",
    "Markdown": "md markdown",
    "MATLAB": "matlab",
    "Nim": "nim",
    "Nix": "nix",
    "OCaml": "ml mli",
    "Objective-C": "m mm",
    "PHP": "php",
    "Pascal": "pas pp",
    "Perl": "pl pm t",
    "PowerShell": "ps1 psm1",
    "Prolog": "pro prolog",
    "Protocol Buffer": "proto",
    "Python": "py pyi pyw",
    "R": "r",
    "Racket": "rkt",
    "Ruby": "rb rake gemspec",
    "Rust": "rs",
    "SCSS": "scss",
    "SQL": "sql",
    "Scala": "scala sbt",
    "Scheme": "scm ss",
    "Shell": "sh bash zsh ksh",
    "Solidity": "sol",
    "Starlark": "bzl star",
    "Swift": "swift",
    "SystemVerilog": "sv svh",
    "TOML": "toml",
    "Tcl": "tcl",
    "TeX": "tex sty cls",
    "TypeScript": "ts tsx mts cts",
    "VHDL": "vhd vhdl",
    "Verilog": "v vh",
    "Vim Script": "vim",
    "Vue": "vue",
    "XML": "xml xsl xsd",
    "YAML": "yml yaml",
    "Zig": "zig",
    "reStructuredText": "rst",
}
_SUFFIXES = {suffix: language for language, suffixes in _BY_SUFFIX.items() for suffix in suffixes.split()}
_NAMES = {
    "bsdmakefile": "Makefile",
    "build": "Starlark",
    "build.bazel": "Starlark",
    "cmakelists.txt": "CMake",
    "containerfile": "Dockerfile",
    "dockerfile": "Dockerfile",
    "gemfile": "Ruby",
    "gnumakefile": "Makefile",
    "jenkinsfile": "Groovy",
    "makefile": "Makefile",
    "meson.build": "Meson",
    "rakefile": "Ruby",
    "sconstruct": "Python",
    "vagrantfile": "Ruby",
    "workspace": "Starlark",
}
_PROGRAMS = {
    "bash": "Shell",
    "dash": "Shell",
    "deno": "TypeScript",
    "elixir": "Elixir",
    "escript": "Erlang",
    "groovy": "Groovy",
    "julia": "Julia",
    "ksh": "Shell",
    "lua": "Lua",
    "make": "Makefile",
    "node": "JavaScript",
    "nodejs": "JavaScript",
    "perl": "Perl",
    "php": "PHP",
    "pwsh": "PowerShell",
    "python": "Python",
    "rscript": "R",
    "ruby": "Ruby",
    "runhaskell": "Haskell",
    "sh": "Shell",
    "tclsh": "Tcl",
    "zsh": "Shell",
}
_SHEBANG = re.compile(r"#![ \t]*(?:\S*/)?(\S+)(.*)")
# A suffix that two languages share, and what tells the second: Linguist's heuristics in their shortest form.
_SHARED = (
    (
        "C",
        "h",
        "C++",
        re.compile(r"^\s*(?:#include\s*<\w+>|(?:class|namespace|template|using)\b|public:|private:)", re.M),
    ),
    ("Objective-C", "m", "MATLAB", re.compile(r"^\s*(?:%|function\b)", re.M)),
    ("Perl", "pl", "Prolog", re.compile(r"^[^#\n]*:-", re.M)),
    ("Verilog", "v", "Coq", re.compile(r"^\s*(?:Require|Theorem|Lemma|Proof|Qed)\b", re.M)),
)


def language_of(name: str, text: str) -> str:
    """The language of a file called `name` that begins with `text`, or "" if nothing says."""
    lower = name.lower()
    if lower in _NAMES or lower.startswith("dockerfile."):
        return _NAMES.get(lower, "Dockerfile")
    stem, dot, suffix = lower.rpartition(".")
    language = _SUFFIXES.get(suffix, "") if dot and stem else ""
    for first, shared, second, sign in _SHARED:
        if language == first and suffix == shared and sign.search(text[:20_000]):
            return second
    return language or _by_shebang(text)


def _by_shebang(text: str) -> str:
    found = _SHEBANG.match(text)
    if found is None:
        return ""
    program, rest = found[1].rsplit("/", 1)[-1], found[2].split()
    if program == "env":
        program = next((word for word in rest if not word.startswith("-") and "=" not in word), "")
    return _PROGRAMS.get(re.sub(r"[\d.]+$", "", program.rsplit("/", 1)[-1]).lower(), "")

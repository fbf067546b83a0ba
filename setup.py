"""The top-level folders are one import namespace, whose public face is what is generated."""

from setuptools import find_packages, setup

FOLDERS = {
    "normspec": "generated",
    "normspec.benchmarks": "benchmarks",
    "normspec.cli": "cli",
    "normspec.codegen": "codegen",
    "normspec.conformance": "conformance",
    "normspec.demo": "demo",
    "normspec.functional": "functional",
    "normspec.interop": "interop",
    "normspec.runtime": "runtime",
    "normspec.specs": "specs",
}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{inner}" for inner in find_packages(folder)))
    ],
)

"""What a path can lead to: directories and texts are asked anew at every look."""

from fusedm.fuse.nodes import DeviceFile, directory, line


def test_a_directory_has_its_names_and_what_they_lead_to() -> None:
    node = directory({"a": DeviceFile("d0")})
    assert list(node.names()) == ["a"]
    assert node.child("a") == DeviceFile("d0")
    assert node.child("b") is None


def test_a_line_ends_in_a_newline() -> None:
    assert line(512).text() == "512\n"
